// SPDX-License-Identifier: Apache-2.0
#include "training/exchange.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "muster/core/fault.h"
#include "muster/nn/backend.h"
#include "training/buffers.h"
#include "training/update_kernels.h"

namespace muster::training {
namespace {

/// target = parts[0] + parts[1] + ..., in this order and in fp32, rounded to the target's type at the end.
void add_in_order(std::span<const at::Tensor> parts, const at::Tensor& target) {
  const std::int64_t count = target.numel(), step = std::min(count, chunk_elements(target.device()));
  at::Tensor wide;
  if (target.scalar_type() != c10::ScalarType::Float && parts.size() > 1) {
    wide = at::empty({step}, target.options().dtype(c10::ScalarType::Float));
  }
  for (std::int64_t first = 0; first < count; first += step) {
    const std::int64_t n = std::min(step, count - first);
    const at::Tensor out = target.narrow(0, first, n), sum = wide.defined() ? wide.narrow(0, 0, n) : out;
    if (parts.empty()) sum.zero_();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const at::Tensor part = parts[i].narrow(0, first, n);
      if (i > 0) {
        sum.add_(part);
      } else if (part.data_ptr() != sum.data_ptr()) {
        sum.copy_(part);
      }
    }
    if (wide.defined()) out.copy_(sum);
  }
}

}  // namespace

Exchange::Exchange(const Layout& layout, const GradientSlots& slots, Config config, comm::Communicator& world)
    : layout_(layout),
      slots_(slots),
      config_(std::move(config)),
      world_(world),
      rank_(world.rank()),
      ranks_(world.size()),
      squares_(static_cast<std::size_t>(layout.own_elements() / kBlock)),
      ready_(layout.buckets(), false) {
  int all_parts = 0;
  for (int r = 0; r < ranks_; ++r) all_parts += parts_of(r);
  const auto options = config_.weights.options();
  in_slot_ = ranks_ == 1 && config_.slots.front() == 1 && slots.dtype() == c10::ScalarType::Float;
  if (!in_slot_) sums_ = at::zeros({layout.own_elements()}, options.dtype(c10::ScalarType::Float));
  if (ranks_ > 1) received_ = at::empty({layout.slice_elements(0) * all_parts}, options.dtype(slots.dtype()));
  thread_ = std::thread([this] { run(); });
}

Exchange::~Exchange() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    // The others wait in a call that this rank will not follow up: there is no way back for them.
    if (in_call_ && ranks_ > 1) world_.abort("a training step was given up while ranks exchanged gradients");
  }
  changed_.notify_all();
  thread_.join();
}

int Exchange::parts_of(int rank) const {
  const int slots = config_.slots[static_cast<std::size_t>(rank)];
  return config_.summation == Summation::kSlots ? slots : std::min(slots, 1);
}

// ---- the thread

/// Waits in the thread; false when it shall end. What it goes on with may be a call that others wait in.
template <class Condition>
bool Exchange::wait_to_go_on(const Condition& condition) {
  std::unique_lock lock(mutex_);
  in_call_ = false;
  changed_.wait(lock, [&] { return stop_ || condition(); });
  in_call_ = !stop_ && (phase_ == Phase::kSumming || phase_ == Phase::kSpreading);
  return !stop_;
}

void Exchange::arrive(Phase phase, std::exception_ptr error) {
  {
    const std::lock_guard lock(mutex_);
    phase_ = phase;
    error_ = std::move(error);
    in_call_ = false;
  }
  changed_.notify_all();
}

void Exchange::run() {
  const at::NoGradGuard no_graph;
  nn::use_one_thread();
  try {
    for (;;) {
      for (std::size_t b = 0; b < layout_.buckets(); ++b) {
        if (!wait_to_go_on([&] { return phase_ == Phase::kSumming && ready_[b]; })) return;
        sum_bucket(b);
      }
      total_squares_ = gather_squares();
      arrive(Phase::kSummed);
      Phase next{};
      if (!wait_to_go_on([&] { return (next = phase_) != Phase::kSummed; })) return;
      if (next != Phase::kSpreading) continue;  // skipped; perhaps the next step has begun
      for (std::size_t b = 0; b < layout_.buckets(); ++b) {
        if (!wait_to_go_on([&] { return updated_ > b; })) return;
        spread_bucket(b);
      }
      arrive(Phase::kIdle);
    }
  } catch (...) {
    arrive(Phase::kFailed, std::current_exception());
  }
}

// ---- its callers

void Exchange::command(Phase phase) {
  {
    const std::lock_guard lock(mutex_);
    if (phase_ == Phase::kFailed) std::rethrow_exception(error_);
    phase_ = phase;
  }
  changed_.notify_all();
}

void Exchange::wait_for(Phase phase) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return phase_ == phase || phase_ == Phase::kFailed; });
  if (phase_ == Phase::kFailed) std::rethrow_exception(error_);
}

void Exchange::begin_step() {
  {
    const std::lock_guard lock(mutex_);
    ready_.assign(layout_.buckets(), false);
    updated_ = 0;
  }
  command(Phase::kSumming);
}

void Exchange::bucket_ready(std::size_t bucket) {
  {
    const std::lock_guard lock(mutex_);
    ready_[bucket] = true;
  }
  changed_.notify_all();
}

double Exchange::wait_for_sums() {
  wait_for(Phase::kSummed);
  return total_squares_;
}

void Exchange::skip() {
  command(Phase::kIdle);
}
void Exchange::spread() {
  command(Phase::kSpreading);
}

void Exchange::weights_ready(std::size_t bucket) {
  {
    const std::lock_guard lock(mutex_);
    updated_ = bucket + 1;
  }
  changed_.notify_all();
}

void Exchange::wait_spread() {
  wait_for(Phase::kIdle);
}

// ---- one bucket

/// Rounded to the wire type, in place of the first slot's.
void Exchange::add_local_slots(std::size_t bucket) {
  const int slots = config_.slots[static_cast<std::size_t>(rank_)];
  if (slots < 2) return;
  std::vector<at::Tensor> parts;
  for (int slot = 0; slot < slots; ++slot) parts.push_back(slots_.part(slot, layout_.bucket(bucket)));
  add_in_order(parts, parts.front());
}

/// This rank's slice of everybody's gradients, in the order of the global slots.
std::vector<at::Tensor> Exchange::exchange_parts(std::size_t bucket) {
  const std::int64_t slice = layout_.slice_elements(bucket);
  int rounds = 0;  // the most that a rank gives
  for (int r = 0; r < ranks_; ++r) rounds = std::max(rounds, parts_of(r));
  std::vector<std::vector<at::Tensor>> of_rank(static_cast<std::size_t>(ranks_));
  std::int64_t filled = 0;
  for (int part = 0; part < rounds; ++part) {
    const bool gives = part < parts_of(rank_);
    const std::vector<std::uint64_t> send_counts(of_rank.size(),
                                                 gives ? static_cast<std::uint64_t>(slice) : 0);
    std::vector<std::uint64_t> receive_counts(of_rank.size(), 0);
    const std::int64_t begin = filled;
    for (int r = 0; r < ranks_; ++r) {
      if (part >= parts_of(r)) continue;
      receive_counts[static_cast<std::size_t>(r)] = static_cast<std::uint64_t>(slice);
      of_rank[static_cast<std::size_t>(r)].push_back(received_.narrow(0, filled, slice));
      filled += slice;
    }
    const at::Tensor sent = gives ? slots_.part(part, layout_.bucket(bucket)) : received_.narrow(0, 0, 0);
    world_.all_to_allv(buffer_of(sent), send_counts, buffer_of(received_.narrow(0, begin, filled - begin)),
                       receive_counts);
  }
  std::vector<at::Tensor> parts;
  for (const auto& of_one : of_rank) parts.insert(parts.end(), of_one.begin(), of_one.end());
  return parts;
}

void Exchange::sum_bucket(std::size_t bucket) {
  core::fault_point("training.sum_bucket");
  if (ranks_ > 1) {
    if (config_.summation == Summation::kRanks) add_local_slots(bucket);
    add_in_order(exchange_parts(bucket), sum(bucket));
  } else if (!in_slot_) {
    std::vector<at::Tensor> parts;
    for (int slot = 0; slot < config_.slots.front(); ++slot)
      parts.push_back(slots_.part(slot, layout_.bucket(bucket)));
    add_in_order(parts, sum(bucket));
  }
  note_squares(bucket);
}

at::Tensor Exchange::sum(std::size_t bucket) const {
  if (in_slot_) return slots_.part(0, layout_.slice(bucket, rank_));
  return sums_.narrow(0, layout_.own_begin(bucket), layout_.slice_elements(bucket));
}

void Exchange::note_squares(std::size_t bucket) {
  const at::Tensor values = sum(bucket);
  const std::int64_t blocks = values.numel() / kBlock;
  double* out = squares_.data() + layout_.own_begin(bucket) / kBlock;
  if (!values.device().is_cpu()) {
    const at::Tensor squares =
        values.view({blocks, kBlock}).to(c10::ScalarType::Double).square().sum(1).cpu();
    std::copy_n(squares.const_data_ptr<double>(), blocks, out);
    return;
  }
  const float* data = values.const_data_ptr<float>();
  for (std::int64_t i = 0; i < blocks; ++i) out[i] = sum_of_squares(data + i * kBlock, kBlock);
}

/// In the order of the layout, whoever owns the blocks.
double Exchange::gather_squares() {
  std::vector<double> all(squares_.size() * static_cast<std::size_t>(ranks_));
  if (ranks_ > 1) {
    world_.all_gather(comm::ConstBuffer(squares_), comm::Buffer(all));
  } else {
    all = squares_;
  }
  double total = 0;
  for (std::size_t b = 0; b < layout_.buckets(); ++b) {
    const auto first = static_cast<std::size_t>(layout_.own_begin(b) / kBlock);
    const auto blocks = static_cast<std::size_t>(layout_.slice_elements(b) / kBlock);
    for (std::size_t r = 0; r < static_cast<std::size_t>(ranks_); ++r) {
      const double* squares = all.data() + r * squares_.size() + first;
      for (std::size_t i = 0; i < blocks; ++i) total += squares[i];
    }
  }
  return total;
}

std::int64_t Exchange::first_non_finite() {
  constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
  const auto in_bucket = [&](std::size_t b) {
    const at::Tensor bad = at::isfinite(sum(b)).logical_not_().nonzero();
    return bad.numel() == 0 ? kNone : layout_.slice(b, rank_).begin + bad[0].item<std::int64_t>();
  };
  std::int64_t first = kNone;
  for (std::size_t b = 0; b < layout_.buckets() && first == kNone; ++b) {
    const auto begin = squares_.begin() + layout_.own_begin(b) / kBlock;
    const bool finite = std::all_of(begin, begin + layout_.slice_elements(b) / kBlock,
                                    [](double square) { return std::isfinite(square); });
    if (!finite) first = in_bucket(b);
  }
  first = world_.all_reduce_value(first, comm::Op::kMin);
  return first == kNone ? -1 : first;
}

void Exchange::spread_bucket(std::size_t bucket) {
  if (ranks_ == 1) return;
  const auto whole = [&](Range range) {
    return buffer_of(config_.weights.narrow(0, range.begin, range.count()));
  };
  world_.all_gather(whole(layout_.slice(bucket, rank_)), whole(layout_.bucket(bucket)));
}

double Exchange::bytes() const {
  double sum = 0;
  for (const at::Tensor& tensor : {sums_, received_})
    if (tensor.defined()) sum += static_cast<double>(tensor.nbytes());
  return sum;
}

}  // namespace muster::training
