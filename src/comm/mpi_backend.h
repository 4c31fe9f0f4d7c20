// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "comm/mpi_support.h"

namespace muster::comm {

/// Every collective on one MPI communicator, for buffers in host memory.
class MpiBackend final : public Backend {
 public:
  MpiBackend(UniqueMpiComm comm, TransferLimit limit);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string name() const override { return "mpi"; }
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

  const MPI_Comm* handle() const { return &handle_; }

 private:
  /// What root tells each rank before a gatherv or scatterv: the rank's count as root sees it, and whether
  /// the whole fits one MPI call.
  struct Agreement {
    std::uint64_t count;
    std::uint64_t fits;
  };
  Agreement agree(std::span<const std::uint64_t> counts, DType dtype, std::size_t mine, int root);
  std::size_t elements_per_call(DType dtype) const;
  void reduce_widened(Buffer buffer, Op op);
  void reduce_native_sum(Buffer buffer);

  UniqueMpiComm comm_;
  MPI_Comm handle_;
  TransferLimit limit_;
  UniqueMpiOp sum_bf16_, sum_fp16_;  // made when first used
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace muster::comm
