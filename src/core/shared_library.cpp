// SPDX-License-Identifier: Apache-2.0
#include "muster/core/shared_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <vector>

namespace muster::core {

namespace fs = std::filesystem;

std::string program_path() {
  std::error_code error;
  const fs::path path = fs::read_symlink("/proc/self/exe", error);
  return error ? std::string() : path.string();
}

std::optional<SharedLibrary> SharedLibrary::open(const std::string& file_name, std::string* why) {
  std::vector<std::string> candidates;
  const fs::path folder = fs::path(program_path()).parent_path();
  for (const fs::path& path : {folder / file_name, folder / ".." / "lib" / file_name}) {
    std::error_code ignored;
    if (!folder.empty() && fs::exists(path, ignored)) candidates.push_back(path.string());
  }
  candidates.push_back(file_name);
  for (const auto& candidate : candidates) {
    // Local symbols: the library brings its own copies of what it shares with the program.
    if (void* handle = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL)) return SharedLibrary(handle);
    // The first failure is the telling one: a library that is there but does not load.
    if (const char* text = ::dlerror();
        why != nullptr && text != nullptr && &candidate == &candidates.front())
      *why = text;
  }
  return std::nullopt;
}

void* SharedLibrary::symbol(const char* name) const {
  return ::dlsym(handle_, name);
}

}  // namespace muster::core
