// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <utility>

namespace muster::core {

/// Move-only owner of a C handle. `Traits` has `using Handle`, `static Handle invalid()` and
/// `static int close(Handle) noexcept` (0 when it worked). The destructor ignores close's status;
/// call `close()` where the status matters.
template <class Traits>
class UniqueHandle {
 public:
  using Handle = typename Traits::Handle;

  UniqueHandle() noexcept : handle_(Traits::invalid()) {}
  explicit UniqueHandle(Handle handle) noexcept : handle_(handle) {}
  UniqueHandle(UniqueHandle&& other) noexcept : handle_(other.release()) {}
  UniqueHandle& operator=(UniqueHandle&& other) noexcept {
    if (this != &other) {
      close();
      handle_ = other.release();
    }
    return *this;
  }
  UniqueHandle(const UniqueHandle&) = delete;
  UniqueHandle& operator=(const UniqueHandle&) = delete;
  ~UniqueHandle() { close(); }

  Handle get() const noexcept { return handle_; }
  explicit operator bool() const noexcept { return handle_ != Traits::invalid(); }
  Handle release() noexcept { return std::exchange(handle_, Traits::invalid()); }
  /// Returns what Traits::close returned, 0 when nothing was owned.
  int close() noexcept {
    if (handle_ == Traits::invalid()) return 0;
    return Traits::close(release());
  }

 private:
  Handle handle_;
};

}  // namespace muster::core
