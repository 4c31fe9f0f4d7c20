// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "muster/core/error.h"

namespace muster::comm {

enum class DType : std::uint8_t { kU8, kI32, kU32, kI64, kU64, kF32, kF64, kF16, kBF16 };
constexpr std::size_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kU8:
      return 1;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kI32:
    case DType::kU32:
    case DType::kF32:
      return 4;
    case DType::kI64:
    case DType::kU64:
    case DType::kF64:
      return 8;
  }
  return 0;
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<std::byte> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<char> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<std::uint32_t> {
  static constexpr DType value = DType::kU32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<std::uint64_t> {
  static constexpr DType value = DType::kU64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};

enum class Memory : std::uint8_t { kHost, kDevice };
enum class Op : std::uint8_t { kSum, kMin, kMax };
/// How 16-bit sums are added: widened to fp32 (the default: a sum of many ranks loses nothing but the last
/// rounding) or in the type itself.
enum class Accumulate : std::uint8_t { kFloat32, kNative };

/// A run of `count` elements of one type in host or device memory. Implicit from typed spans.
struct Buffer {
  void* data = nullptr;
  std::size_t count = 0;
  DType dtype = DType::kU8;
  Memory memory = Memory::kHost;
  Buffer() = default;
  Buffer(void* d, std::size_t n, DType t, Memory m) : data(d), count(n), dtype(t), memory(m) {}
  template <class T>
  Buffer(std::span<T> s) : data(s.data()), count(s.size()), dtype(DTypeOf<T>::value) {}
  template <class T>
  Buffer(std::vector<T>& v) : Buffer(std::span<T>(v)) {}
  std::size_t bytes() const { return count * dtype_bytes(dtype); }
};
struct ConstBuffer {
  const void* data = nullptr;
  std::size_t count = 0;
  DType dtype = DType::kU8;
  Memory memory = Memory::kHost;
  ConstBuffer() = default;
  ConstBuffer(const void* d, std::size_t n, DType t, Memory m) : data(d), count(n), dtype(t), memory(m) {}
  template <class T>
  ConstBuffer(std::span<const T> s) : data(s.data()), count(s.size()), dtype(DTypeOf<T>::value) {}
  template <class T>
  ConstBuffer(const std::vector<T>& v) : ConstBuffer(std::span<const T>(v)) {}
  ConstBuffer(const Buffer& b) : data(b.data), count(b.count), dtype(b.dtype), memory(b.memory) {}
  std::size_t bytes() const { return count * dtype_bytes(dtype); }
};

/// Most elements or bytes that one MPI call moves; larger transfers are cut. A parameter so that a test can
/// lower it.
struct TransferLimit {
  std::size_t bytes = std::size_t{1} << 30;
};

/// How a backend that knows only host memory reaches device memory: both copy `bytes` and return when they
/// are done. The device room's CudaServices has functions of these forms; they return 0 on success.
struct DeviceCopies {
  int (*to_host)(void* host, const void* device, std::uint64_t bytes) = nullptr;
  int (*to_device)(void* device, const void* host, std::uint64_t bytes) = nullptr;
};

/// What a backend implements; see Communicator for the meaning of each call.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string name() const = 0;  ///< "mpi", "nccl"
  virtual void barrier() = 0;
  virtual void broadcast(Buffer buffer, int root) = 0;
  virtual void all_reduce(Buffer buffer, Op op, Accumulate accumulate) = 0;
  virtual void all_gather(ConstBuffer send, Buffer receive) = 0;
  virtual void gatherv(ConstBuffer send, Buffer receive, std::span<const std::uint64_t> counts, int root) = 0;
  virtual void scatterv(ConstBuffer send, std::span<const std::uint64_t> counts, Buffer receive,
                        int root) = 0;
  virtual void all_to_allv(ConstBuffer send, std::span<const std::uint64_t> send_counts, Buffer receive,
                           std::span<const std::uint64_t> receive_counts) = 0;
  virtual void send(ConstBuffer buffer, int peer, int tag) = 0;
  virtual void receive(Buffer buffer, int peer, int tag) = 0;
  virtual std::optional<int> probe(int tag) = 0;
  virtual std::unique_ptr<Backend> duplicate() = 0;
  virtual std::unique_ptr<Backend> split(int color, int key) = 0;  ///< color < 0: no group, returns null
  virtual void abort(
      const std::string& reason) noexcept = 0;  ///< wakes or kills whoever waits in a collective
};

/// A group of ranks, as a value: move-only, owns its handle; with one rank every collective is an identity.
/// One thread at a time may use a Communicator; a thread that talks beside others gets its own `duplicate()`.
/// All calls throw CommError; they are collective over the group unless they name a peer.
class Communicator {
 public:
  Communicator() = default;  ///< empty; usable only as a target of assignment
  explicit Communicator(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}
  explicit operator bool() const { return backend_ != nullptr; }

  int rank() const { return backend_->rank(); }
  int size() const { return backend_->size(); }
  bool is_root() const { return rank() == 0; }
  std::string backend_name() const { return backend_->name(); }

  void barrier() { backend_->barrier(); }
  void broadcast(Buffer buffer, int root = 0) { backend_->broadcast(buffer, root); }
  void all_reduce(Buffer buffer, Op op = Op::kSum, Accumulate accumulate = Accumulate::kFloat32) {
    backend_->all_reduce(buffer, op, accumulate);
  }
  /// Every rank gives `send.count` elements (the same on all); `receive` holds size() times as many, in rank
  /// order. `send` may be the rank's own place in `receive`.
  void all_gather(ConstBuffer send, Buffer receive) { backend_->all_gather(send, receive); }
  /// `counts` (elements a rank, read on root) in rank order; transfers above the limit are cut.
  void gatherv(ConstBuffer send, Buffer receive, std::span<const std::uint64_t> counts, int root = 0) {
    backend_->gatherv(send, receive, counts, root);
  }
  void scatterv(ConstBuffer send, std::span<const std::uint64_t> counts, Buffer receive, int root = 0) {
    backend_->scatterv(send, counts, receive, root);
  }
  /// Every rank gives every rank a part: `send` holds what goes to each, in rank order, `receive` what comes
  /// from each; both ends of a pair give the same count. Parts of any size.
  void all_to_allv(ConstBuffer send, std::span<const std::uint64_t> send_counts, Buffer receive,
                   std::span<const std::uint64_t> receive_counts) {
    backend_->all_to_allv(send, send_counts, receive, receive_counts);
  }
  /// `tag` is 0..32767; NCCL has no tags and pairs the calls of two ranks in their order.
  void send(ConstBuffer buffer, int peer, int tag) { backend_->send(buffer, peer, tag); }
  /// `buffer` has exactly the size that was sent.
  void receive(Buffer buffer, int peer, int tag) { backend_->receive(buffer, peer, tag); }
  /// The sender of a message with this tag that waits to be received; nullopt when there is none. Never
  /// blocks. MPI only.
  std::optional<int> probe(int tag) { return backend_->probe(tag); }
  Communicator duplicate() { return Communicator(backend_->duplicate()); }
  Communicator split(int color, int key) { return Communicator(backend_->split(color, key)); }
  void abort(const std::string& reason) noexcept { backend_->abort(reason); }
  Backend& backend() { return *backend_; }

  // Conveniences built on the calls above.
  template <class T>
  T all_reduce_value(T value, Op op) {
    all_reduce(Buffer(std::span<T>(&value, 1)), op);
    return value;
  }
  template <class T>
  T broadcast_value(T value, int root = 0) {
    broadcast(Buffer(std::span<T>(&value, 1)), root);
    return value;
  }
  std::string broadcast_string(const std::string& text, int root = 0);
  /// One value a rank, in rank order, on every rank.
  template <class T>
  std::vector<T> all_gather_value(T value) {
    std::vector<T> all(static_cast<std::size_t>(size()));
    all_gather(ConstBuffer(std::span<const T>(&value, 1)), Buffer(all));
    return all;
  }
  /// Byte strings of any length: root gets one a rank, the others an empty vector.
  std::vector<std::string> gather_strings(const std::string& mine, int root = 0);
  /// Root gives one string a rank; every rank gets its own.
  std::string scatter_strings(std::span<const std::string> all, int root = 0);

 private:
  std::unique_ptr<Backend> backend_;
};

/// A duplicate of MPI's world with its own limit; needs a live Session. Duplicates and splits keep limit and
/// copies. With `copies` it takes buffers in device memory too, staged through the host.
Communicator make_mpi_communicator(TransferLimit limit = {}, DeviceCopies copies = {});

/// Runs `work` on every rank, then lets the ranks agree: when one of them threw, all throw the error of the
/// lowest such rank ("[on rank 2] ..."), with its exit code. Nothing in `work` may be collective.
void collectively(Communicator& communicator, const std::function<void()>& work);

}  // namespace muster::comm
