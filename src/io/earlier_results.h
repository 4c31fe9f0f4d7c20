// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

namespace muster::io {

/// For --fresh: the manifest goes first, so that nothing vouches for what is half removed; then the files it
/// lists. Other files and whatever lies outside `directory` behind a symbolic link stay.
void forget_results(const std::string& directory);
/// Removes everything in .run but the locks and their owner.
void clear_run_folder(const std::string& run_folder);
/// Removes .run itself. The lock goes with it: whoever waits for it notices that its file is no longer there.
void remove_run_folder(const std::string& run_folder);

}  // namespace muster::io
