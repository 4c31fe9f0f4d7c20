// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>

namespace muster::core {

/// A shared library opened at run time and kept for the life of the process: code of its own may still run in
/// other threads, so it is never closed.
class SharedLibrary {
 public:
  /// Looks beside the running program, in ../lib from there, then along the loader's own path. On failure
  /// nullopt, and `*why` holds the loader's last word.
  static std::optional<SharedLibrary> open(const std::string& file_name, std::string* why);

  /// Null when the library has no such name.
  template <class Function>
  Function* function(const char* name) const {
    return reinterpret_cast<Function*>(symbol(name));
  }

 private:
  explicit SharedLibrary(void* handle) : handle_(handle) {}
  void* symbol(const char* name) const;

  void* handle_;
};

/// The program that runs, from /proc/self/exe; empty where that cannot be read.
std::string program_path();

}  // namespace muster::core
