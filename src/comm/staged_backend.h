// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "muster/comm/communicator.h"

namespace muster::comm {

/// A host-only backend that takes device buffers too: each goes through a host copy of its whole size.
class StagedBackend final : public Backend {
 public:
  StagedBackend(std::unique_ptr<Backend> inner, DeviceCopies copies)
      : inner_(std::move(inner)), copies_(copies) {}

  Backend& inner() { return *inner_; }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string name() const override { return inner_->name(); }
  void barrier() override { inner_->barrier(); }
  void broadcast(Buffer buffer, int root) override;
  void all_reduce(Buffer buffer, Op op, Accumulate accumulate) override;
  void all_gather(ConstBuffer send, Buffer receive) override;
  void gatherv(ConstBuffer send, Buffer receive, std::span<const std::uint64_t> counts, int root) override;
  void scatterv(ConstBuffer send, std::span<const std::uint64_t> counts, Buffer receive, int root) override;
  void all_to_allv(ConstBuffer send, std::span<const std::uint64_t> send_counts, Buffer receive,
                   std::span<const std::uint64_t> receive_counts) override;
  void send(ConstBuffer buffer, int peer, int tag) override;
  void receive(Buffer buffer, int peer, int tag) override;
  std::optional<int> probe(int tag) override { return inner_->probe(tag); }
  std::unique_ptr<Backend> duplicate() override;
  std::unique_ptr<Backend> split(int color, int key) override;
  void abort(const std::string& reason) noexcept override { inner_->abort(reason); }

 private:
  std::unique_ptr<Backend> inner_;
  DeviceCopies copies_;
};

}  // namespace muster::comm
