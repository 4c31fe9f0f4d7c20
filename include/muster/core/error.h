// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace muster::core {

/// Exit codes of the program, the same from every rank (docs/reference.md).
enum class ExitCode : int {
  kDone = 0,
  kInternal = 1,
  kUsage = 2,
  kInput = 3,
  kPartial = 4,
  kResumeMismatch = 5,
  kResources = 6,
  kOutput = 7,
  kStopped = 75,
};

/// Base of all errors we throw on purpose. The message says where, what and what to do; the log line adds
/// who.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

/// Wrong command line or config file (exit 2).
class ConfigError : public Error {
 public:
  explicit ConfigError(const std::string& message) : Error(ExitCode::kUsage, message) {}
};

/// Input or model missing, unreadable or damaged (exit 3).
class DataError : public Error {
 public:
  explicit DataError(const std::string& message) : Error(ExitCode::kInput, message) {}
};

/// Another config, model or input than the one the output directory was started with (exit 5).
class ResumeError : public Error {
 public:
  explicit ResumeError(const std::string& message) : Error(ExitCode::kResumeMismatch, message) {}
};

/// Out of memory on host or device (exit 6). `bytes` is what was asked for, 0 when unknown.
class ResourceError : public Error {
 public:
  explicit ResourceError(const std::string& message, std::size_t bytes = 0)
      : Error(ExitCode::kResources, message), bytes_(bytes) {}
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::size_t bytes_;
};

/// Output directory locked, full or not writable (exit 7).
class OutputError : public Error {
 public:
  explicit OutputError(const std::string& message) : Error(ExitCode::kOutput, message) {}
};

/// MPI, NCCL or the launcher failed (exit 1).
class CommError : public Error {
 public:
  explicit CommError(const std::string& message) : Error(ExitCode::kInternal, message) {}
};

/// A broken promise of our own code (exit 1).
class InternalError : public Error {
 public:
  explicit InternalError(const std::string& message) : Error(ExitCode::kInternal, message) {}
};

/// Throws InternalError with file and line when `condition` is false.
void internal_check(bool condition, std::string_view what,
                    std::source_location where = std::source_location::current());

/// Exit code for any exception: ours as they are, std::bad_alloc as kResources, the rest as kInternal.
ExitCode exit_code_of(const std::exception& error) noexcept;

/// "No space left on device (errno 28)".
std::string errno_text(int error_number);

}  // namespace muster::core
