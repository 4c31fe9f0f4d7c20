// SPDX-License-Identifier: Apache-2.0
#include "comm/staged_backend.h"

namespace muster::comm {
namespace {

void check_copy(int status) {
  if (status != 0)
    throw core::CommError("copying between device and host failed; see the GPU's messages in the system log");
}

/// What a call reads, in host memory.
class HostInput {
 public:
  HostInput(ConstBuffer source, const DeviceCopies& copies) : view_(source) {
    if (source.memory == Memory::kHost) return;
    staged_.resize(source.bytes());
    if (!staged_.empty()) check_copy(copies.to_host(staged_.data(), source.data, staged_.size()));
    view_ = ConstBuffer(staged_.data(), source.count, source.dtype, Memory::kHost);
  }
  ConstBuffer get() const { return view_; }

 private:
  std::vector<std::byte> staged_;
  ConstBuffer view_;
};

/// What a call writes (and perhaps reads first), in host memory; `commit` takes it to the device.
class HostOutput {
 public:
  HostOutput(Buffer target, const DeviceCopies& copies) : target_(target), view_(target), copies_(copies) {
    if (target.memory == Memory::kHost) return;
    staged_.resize(target.bytes());
    view_ = Buffer(staged_.data(), target.count, target.dtype, Memory::kHost);
  }
  void load() {
    if (!staged_.empty()) check_copy(copies_.to_host(staged_.data(), target_.data, staged_.size()));
  }
  Buffer get() const { return view_; }
  void commit() {
    if (!staged_.empty()) check_copy(copies_.to_device(target_.data, staged_.data(), staged_.size()));
  }

 private:
  std::vector<std::byte> staged_;
  Buffer target_, view_;
  DeviceCopies copies_;
};

}  // namespace

void StagedBackend::broadcast(Buffer buffer, int root) {
  HostOutput host(buffer, copies_);
  if (rank() == root) host.load();
  inner_->broadcast(host.get(), root);
  if (rank() != root) host.commit();
}

void StagedBackend::all_reduce(Buffer buffer, Op op, Accumulate accumulate) {
  HostOutput host(buffer, copies_);
  host.load();
  inner_->all_reduce(host.get(), op, accumulate);
  host.commit();
}

void StagedBackend::all_gather(ConstBuffer send, Buffer receive) {
  const HostInput input(send, copies_);
  HostOutput output(receive, copies_);
  inner_->all_gather(input.get(), output.get());
  output.commit();
}

void StagedBackend::gatherv(ConstBuffer send, Buffer receive, std::span<const std::uint64_t> counts,
                            int root) {
  const HostInput input(send, copies_);
  HostOutput output(rank() == root ? receive : Buffer(), copies_);
  inner_->gatherv(input.get(), output.get(), counts, root);
  output.commit();
}

void StagedBackend::scatterv(ConstBuffer send, std::span<const std::uint64_t> counts, Buffer receive,
                             int root) {
  const HostInput input(rank() == root ? send : ConstBuffer(), copies_);
  HostOutput output(receive, copies_);
  inner_->scatterv(input.get(), counts, output.get(), root);
  output.commit();
}

void StagedBackend::all_to_allv(ConstBuffer send, std::span<const std::uint64_t> send_counts, Buffer receive,
                                std::span<const std::uint64_t> receive_counts) {
  const HostInput input(send, copies_);
  HostOutput output(receive, copies_);
  inner_->all_to_allv(input.get(), send_counts, output.get(), receive_counts);
  output.commit();
}

void StagedBackend::send(ConstBuffer buffer, int peer, int tag) {
  inner_->send(HostInput(buffer, copies_).get(), peer, tag);
}

void StagedBackend::receive(Buffer buffer, int peer, int tag) {
  HostOutput host(buffer, copies_);
  inner_->receive(host.get(), peer, tag);
  host.commit();
}

std::unique_ptr<Backend> StagedBackend::duplicate() {
  return std::make_unique<StagedBackend>(inner_->duplicate(), copies_);
}

std::unique_ptr<Backend> StagedBackend::split(int color, int key) {
  auto part = inner_->split(color, key);
  return part ? std::make_unique<StagedBackend>(std::move(part), copies_) : nullptr;
}

}  // namespace muster::comm
