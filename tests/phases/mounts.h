// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

namespace muster::test {

/// A small or a read-only file system at a folder of a test. Needs root and a kernel that lets containers
/// mount: ask ok().
class Mount {
 public:
  static Mount tmpfs(const std::string& folder, const std::string& size);  ///< "2m"
  static Mount read_only(const std::string& folder);  ///< the folder itself, not writable any more
  ~Mount();
  Mount(Mount&& other) noexcept;
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  bool ok() const { return reason_.empty(); }
  const std::string& reason() const { return reason_; }

 private:
  Mount() = default;
  std::string folder_;  ///< empty: nothing to unmount
  std::string reason_;
};

/// Fills the file system of `folder` to the last byte with the file `ballast`; free_disk removes it.
void fill_disk(const std::string& folder);
void free_disk(const std::string& folder);

}  // namespace muster::test
