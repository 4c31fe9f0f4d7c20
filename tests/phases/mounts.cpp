// SPDX-License-Identifier: Apache-2.0
#include "mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "muster/core/file.h"

namespace muster::test {

Mount Mount::tmpfs(const std::string& folder, const std::string& size) {
  std::filesystem::create_directories(folder);
  Mount mount;
  if (::mount("tmpfs", folder.c_str(), "tmpfs", 0, ("size=" + size).c_str()) != 0) {
    mount.reason_ = std::string("a tmpfs cannot be mounted here: ") + std::strerror(errno);
  } else {
    mount.folder_ = folder;
  }
  return mount;
}

Mount Mount::read_only(const std::string& folder) {
  Mount mount;
  const char* path = folder.c_str();
  if (::mount(path, path, nullptr, MS_BIND, nullptr) != 0) {
    mount.reason_ = std::string("a bind mount cannot be made here: ") + std::strerror(errno);
    return mount;
  }
  mount.folder_ = folder;
  if (::mount(nullptr, path, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
    mount.reason_ = std::string("a mount cannot be made read-only here: ") + std::strerror(errno);
  }
  return mount;
}

Mount::Mount(Mount&& other) noexcept
    : folder_(std::exchange(other.folder_, "")), reason_(std::move(other.reason_)) {}

Mount::~Mount() {
  if (!folder_.empty()) ::umount2(folder_.c_str(), MNT_DETACH);
}

void fill_disk(const std::string& folder) {
  const core::UniqueFd fd(::open((folder + "/ballast").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  const std::vector<char> block(4096);
  while (::write(fd.get(), block.data(), block.size()) > 0) {
  }
}

void free_disk(const std::string& folder) {
  std::filesystem::remove(folder + "/ballast");
}

}  // namespace muster::test
