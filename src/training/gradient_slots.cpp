// SPDX-License-Identifier: Apache-2.0
#include "training/gradient_slots.h"

#include <ATen/Functions.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace muster::training {

GradientSlots::GradientSlots(std::span<const ParameterSpec> parameters, const Layout& layout, Config config)
    : layout_(layout),
      config_(std::move(config)),
      slots_(static_cast<std::size_t>(config_.slots)),
      parts_of_bucket_(layout.buckets(), 0),
      remaining_(std::make_unique<std::atomic<std::size_t>[]>(layout.buckets())) {
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const auto [first, last] = layout.buckets_of(p);
    for (std::size_t b = first; b <= last; ++b) ++parts_of_bucket_[b];
  }
  for (Slot& slot : slots_) {
    slot.flat = at::zeros({layout.padded_elements()}, at::device(config_.device).dtype(config_.dtype));
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      const Range place = layout.parameter(p);
      slot.gradients.push_back(slot.flat.narrow(0, place.begin, place.count()).view(parameters[p].shape));
    }
    slot.accumulators.resize(parameters.size());
    slot.states.resize(parameters.size());
  }
}

void GradientSlots::begin_step() {
  for (Slot& slot : slots_) std::fill(slot.states.begin(), slot.states.end(), State::kNothing);
  for (std::size_t b = 0; b < layout_.buckets(); ++b) remaining_[b] = parts_of_bucket_[b] * slots_.size();
  missing_ = layout_.parameters() * slots_.size();
}

/// One micro-batch's 16-bit gradient is copied as it is; of several the sum is taken in fp32 and rounded
/// once.
void GradientSlots::put(Slot& slot, std::size_t parameter, const at::Tensor& gradient, More more) {
  const at::Tensor& place = slot.gradients[parameter];
  State& state = slot.states[parameter];
  const bool in_place =
      config_.dtype == c10::ScalarType::Float || (state == State::kNothing && more == More::kNo);
  at::Tensor& accumulator = slot.accumulators[parameter];
  if (!in_place && !accumulator.defined()) {
    accumulator = at::empty(place.sizes(), place.options().dtype(c10::ScalarType::Float));
  }
  const at::Tensor& target = in_place ? place : accumulator;
  if (gradient.defined()) {
    if (state == State::kNothing) {
      target.copy_(gradient);
    } else {
      target.add_(gradient);
    }
    state = State::kSomething;
  } else if (state == State::kNothing && more == More::kNo) {
    place.zero_();
  }
  if (more == More::kNo && !in_place) place.copy_(accumulator);
}

void GradientSlots::add(int slot, std::size_t parameter, const at::Tensor& gradient, More more) {
  core::internal_check(slot >= 0 && slot < config_.slots && parameter < layout_.parameters(),
                       fmt::format("no slot {} or no parameter {}", slot, parameter));
  Slot& own = slots_[static_cast<std::size_t>(slot)];
  core::internal_check(
      own.states[parameter] != State::kComplete,
      fmt::format("slot {} has completed parameter {} in this step, or no step has begun", slot, parameter));
  if (gradient.defined()) {
    const auto expected = own.gradients[parameter].sizes();
    core::internal_check(gradient.sizes() == expected,
                         fmt::format("the gradient of parameter {} is [{}], the parameter [{}]", parameter,
                                     fmt::join(gradient.sizes(), ","), fmt::join(expected, ",")));
  }
  put(own, parameter, gradient, more);
  if (more == More::kYes) return;
  own.states[parameter] = State::kComplete;
  --missing_;
  const auto [first, last] = layout_.buckets_of(parameter);
  for (std::size_t b = first; b <= last; ++b) {
    if (--remaining_[b] == 0) config_.on_complete(b);
  }
}

at::Tensor GradientSlots::part(int slot, Range range) const {
  return slots_[static_cast<std::size_t>(slot)].flat.narrow(0, range.begin, range.count());
}

double GradientSlots::bytes() const {
  double sum = 0;
  for (const Slot& slot : slots_) {
    sum += static_cast<double>(slot.flat.nbytes());
    for (const at::Tensor& accumulator : slot.accumulators) {
      if (accumulator.defined()) sum += static_cast<double>(accumulator.nbytes());
    }
  }
  return sum;
}

}  // namespace muster::training
