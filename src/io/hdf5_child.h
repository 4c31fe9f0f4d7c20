// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>

#include "muster/core/file.h"

namespace muster::io {

/// Text and id of one row as the file holds them.
struct H5Row {
  std::string id, text;
};

/// A child process that reads the rows of one HDF5 file and sends them through a pipe. A damaged file may
/// crash the library, make it loop or make it ask for absurd amounts of memory: all that then happens to the
/// child, and here it is a DataError.
class H5Child {
 public:
  /// `id_column` empty, or absent in the file: rows have no id.
  H5Child(const std::string& path, const std::string& id_column, const std::string& text_column);

  bool has_ids() const { return has_ids_; }
  /// False after the last row. DataError for whatever is wrong with the file.
  bool next(H5Row& row);

 private:
  /// Kills and reaps the child, also when a constructor throws.
  struct Process {
    pid_t pid = -1;
    Process() = default;
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process() { end(); }
    int end() noexcept;  ///< the status that waitpid gives
  };
  [[noreturn]] void run(int output, pid_t reader, const std::string& id_column,
                        const std::string& text_column) const;
  void receive(void* out, std::size_t bytes);
  void receive_text(std::string& out);
  [[noreturn]] void fail_dead();

  std::string path_;
  core::UniqueFd pipe_;
  Process child_;
  bool has_ids_ = false;
  bool finished_ = false;
  std::string buffer_;
  std::size_t used_ = 0;
};

}  // namespace muster::io
