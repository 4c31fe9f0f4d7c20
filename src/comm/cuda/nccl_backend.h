// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <nccl.h>

#include <atomic>

#include "comm/cuda/cuda_memory.h"
#include "comm/nccl_library.h"

namespace muster::comm {

/// Collectives on a non-blocking NCCL communicator. A call enqueues on the backend's own stream, polls until
/// the device is done, and returns; past the deadline, on an error, or when another thread called abort(),
/// the thread that issued the call aborts the communicator and throws. Every transfer is cut into pieces of
/// the staging size, whatever the memory.
///
/// Device buffers: work on the default stream is waited for; work on other streams must be finished before
/// the call. Host buffers pass through a staging buffer on the device.
class NcclBackend final : public Backend {
 public:
  /// Takes `comm`, which may still be starting, and waits until it is ready.
  NcclBackend(ncclComm_t comm, const NcclConfig& config);
  ~NcclBackend() override;
  static std::unique_ptr<NcclBackend> create(const NcclSetup& setup);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string name() const override { return "nccl"; }
  void barrier() override;
  void broadcast(Buffer buffer, int root) override;
  void all_reduce(Buffer buffer, Op op, Accumulate accumulate) override;
  void all_gather(ConstBuffer send, Buffer receive) override;
  void gatherv(ConstBuffer send, Buffer receive, std::span<const std::uint64_t> counts, int root) override;
  void scatterv(ConstBuffer send, std::span<const std::uint64_t> counts, Buffer receive, int root) override;
  void all_to_allv(ConstBuffer send, std::span<const std::uint64_t> send_counts, Buffer receive,
                   std::span<const std::uint64_t> receive_counts) override;
  void send(ConstBuffer buffer, int peer, int tag) override;
  void receive(Buffer buffer, int peer, int tag) override;
  std::optional<int> probe(int tag) override;
  std::unique_ptr<Backend> duplicate() override;
  std::unique_ptr<Backend> split(int color, int key) override;
  void abort(const std::string& reason) noexcept override;

 private:
  enum class Flow { kIn, kOut, kInOut };

  void begin();
  template <class Enqueue>
  void issue(const char* call, const Enqueue& enqueue);
  template <class Transfer>
  void in_place(Buffer buffer, Flow flow, const char* call, const Transfer& transfer);
  void settle(const char* call);
  void finish(const char* call);
  void check_deadline(const char* call, double start);
  [[noreturn]] void fail(const char* call, const std::string& why);
  void copy(void* to, const void* from, std::size_t bytes);
  void reduce_widened(Buffer buffer);
  std::size_t staging_size() const;
  std::byte* staging();
  std::byte* pinned();
  std::size_t elements_per_rank(std::size_t width) const;

  NcclConfig config_;
  ncclComm_t comm_;  ///< null once aborted
  int rank_ = 0;
  int size_ = 1;
  UniqueStream stream_;
  UniqueEvent event_;
  UniqueDeviceMemory staging_;
  UniquePinned pinned_;
  std::atomic<bool> abort_requested_{false};
};

}  // namespace muster::comm
