// SPDX-License-Identifier: Apache-2.0
#include "muster/training/trainer.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "muster/core/clock.h"
#include "training/buffers.h"
#include "training/trainer_impl.h"

namespace muster::training {
namespace {

constexpr double kClipEpsilon = 1e-6;  // as torch.nn.utils.clip_grad_norm_ has it

std::int64_t bucket_elements(const TrainerConfig& config) {
  return static_cast<std::int64_t>(config.bucket_bytes / c10::elementSize(config.wire_dtype));
}

const TrainerConfig& checked(const TrainerConfig& config, const std::vector<ParameterSpec>& parameters,
                             int ranks) {
  config.optimizer.validate();
  config.schedule.validate();
  config.loss_scaler.validate();
  if (!(config.clip_norm >= 0)) {
    throw core::ConfigError(fmt::format(
        "the gradient's norm is clipped at a number from 0 (0: never), not at {}", config.clip_norm));
  }
  if (!(config.average_decay >= 0 && config.average_decay < 1)) {
    throw core::ConfigError(fmt::format("the moving average's decay lies in [0, 1) (0: no average), not {}",
                                        config.average_decay));
  }
  core::internal_check(!parameters.empty(), "a trainer has parameters");
  core::internal_check(config.slots.size() == static_cast<std::size_t>(ranks),
                       "every rank has a number of slots");
  core::internal_check(std::ranges::all_of(config.slots, [](int slots) { return slots >= 0; }) &&
                           std::ranges::any_of(config.slots, [](int slots) { return slots > 0; }),
                       "some rank has slots, and none has a negative number");
  return config;
}

/// Neighbouring parameters of one kind make one run; padding belongs to whatever lies before it.
std::vector<DecayRun> runs_of(Range slice, const Layout& layout,
                              const std::vector<ParameterSpec>& parameters) {
  std::vector<DecayRun> runs;
  for (std::int64_t at = slice.begin; at < slice.end;) {
    const std::size_t p = layout.parameter_at(at);
    const std::int64_t next = p == 0 ? slice.end : std::min(slice.end, layout.parameter(p - 1).begin);
    if (next > at) {
      if (!runs.empty() && runs.back().decays == parameters[p].decays) {
        runs.back().count += next - at;
      } else {
        runs.push_back({at - slice.begin, next - at, parameters[p].decays});
      }
    }
    at = next;
  }
  return runs;
}

}  // namespace

Trainer::Impl::Impl(std::vector<ParameterSpec> specs, const TrainerConfig& trainer_config,
                    comm::Communicator communicator)
    : parameters(std::move(specs)),
      config(checked(trainer_config, parameters, communicator.size())),
      world(std::move(communicator)),
      layout(parameters, bucket_elements(config), world.size()),
      masters_are_weights(config.compute_dtype == c10::ScalarType::Float),
      flat_weights(
          at::zeros({layout.padded_elements()}, at::device(config.device).dtype(config.compute_dtype))),
      scaler(config.loss_scaler),
      slots(parameters, layout,
            {config.slots[static_cast<std::size_t>(world.rank())], config.wire_dtype, config.device,
             [this](std::size_t bucket) { exchange.bucket_ready(bucket); }}),
      exchange(layout, slots, {config.slots, config.summation, flat_weights}, world) {
  const auto own = [&] {
    return at::zeros({layout.own_elements()}, flat_weights.options().dtype(c10::ScalarType::Float));
  };
  if (!masters_are_weights) flat_masters = own();
  first_moment = own();
  second_moment = own();
  if (averages()) flat_averages = own();
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const Range place = layout.parameter(p);
    weights.push_back(flat_weights.narrow(0, place.begin, place.count()).view(parameters[p].shape));
  }
  for (std::size_t b = 0; b < layout.buckets(); ++b)
    decay_runs.push_back(runs_of(layout.slice(b, world.rank()), layout, parameters));
}

at::Tensor Trainer::Impl::own_part(const at::Tensor& own_flat, std::size_t bucket) const {
  return own_flat.narrow(0, layout.own_begin(bucket), layout.slice_elements(bucket));
}

at::Tensor Trainer::Impl::own_weights(std::size_t bucket) const {
  const Range slice = layout.slice(bucket, world.rank());
  return flat_weights.narrow(0, slice.begin, slice.count());
}

at::Tensor Trainer::Impl::masters(std::size_t bucket) const {
  return masters_are_weights ? own_weights(bucket) : own_part(flat_masters, bucket);
}

void Trainer::Impl::spread_masters() {
  for (std::size_t b = 0; b < layout.buckets(); ++b) {
    if (!masters_are_weights) own_weights(b).copy_(masters(b));
    exchange.spread_bucket(b);
  }
}

/// One pass over memory: each chunk's new weights are rounded while it is in the cache.
void Trainer::Impl::update_bucket(std::size_t bucket, const UpdateStep& step) {
  const at::Tensor master = masters(bucket), m = own_part(first_moment, bucket),
                   v = own_part(second_moment, bucket), gradient = exchange.sum(bucket),
                   weight = own_weights(bucket);
  const std::int64_t most = chunk_elements(config.device);
  const auto n = static_cast<double>(step.number);
  const double share = 1 - std::min(config.average_decay, (1 + n) / (10 + n));
  for (const DecayRun& run : decay_runs[bucket]) {
    for (std::int64_t done = 0; done < run.count;) {
      const std::int64_t count = std::min(most, run.count - done), first = run.first + done;
      const auto part = [&](const at::Tensor& flat) { return flat.narrow(0, first, count); };
      update(config.optimizer, step, {part(master), part(m), part(v), part(gradient), run.decays});
      if (averages()) move_average(part(own_part(flat_averages, bucket)), part(master), share);
      if (!masters_are_weights) part(weight).copy_(part(master));
      done += count;
    }
  }
}

StepReport Trainer::Impl::skipped_step(StepReport report) {
  report.skipped = true;
  if (scaler.at_minimum()) {
    const std::int64_t place = exchange.first_non_finite();
    if (place >= 0) report.first_non_finite = parameters[layout.parameter_at(place)].name;
  }
  exchange.skip();
  scaler.update(LossScaler::Outcome::kOverflow);
  return report;
}

Trainer::Trainer(std::vector<ParameterSpec> parameters, std::span<const at::Tensor> initial,
                 const TrainerConfig& config, comm::Communicator world) {
  const c10::InferenceMode normal_tensors(false);
  const at::NoGradGuard no_graph;
  core::internal_check(initial.size() == parameters.size(), "every parameter has a first value");
  impl_ = std::make_unique<Impl>(std::move(parameters), config, std::move(world));
  Impl& t = *impl_;
  // Through a flat copy of the size of all masters: a slice may begin anywhere.
  at::Tensor flat = at::zeros({t.layout.padded_elements()}, c10::ScalarType::Float);
  for (std::size_t p = 0; p < initial.size(); ++p) {
    const Range place = t.layout.parameter(p);
    core::internal_check(
        initial[p].sizes() == t.weights[p].sizes(),
        fmt::format("'{}' begins as [{}] and shall be [{}]", t.parameters[p].name,
                    fmt::join(initial[p].sizes(), ","), fmt::join(t.weights[p].sizes(), ",")));
    flat.narrow(0, place.begin, place.count()).copy_(initial[p].reshape({-1}));
  }
  t.flat_weights.copy_(flat);
  for (std::size_t b = 0; b < t.layout.buckets(); ++b) {
    const Range slice = t.layout.slice(b, t.world.rank());
    const at::Tensor own = flat.narrow(0, slice.begin, slice.count());
    if (!t.masters_are_weights) t.masters(b).copy_(own);
    if (t.averages()) t.own_part(t.flat_averages, b).copy_(own);
  }
}

Trainer::~Trainer() = default;

std::span<const at::Tensor> Trainer::weights() const {
  return impl_->weights;
}
double Trainer::loss_scale() const {
  return impl_->scaler.scale();
}
std::uint64_t Trainer::steps() const {
  return impl_->steps;
}

void Trainer::begin_step() {
  Impl& t = *impl_;
  core::internal_check(!t.in_step, "a step begins after the end of the last");
  t.in_step = true;
  t.slots.begin_step();
  t.exchange.begin_step();
  // Without slots nobody will say so.
  if (t.config.slots[static_cast<std::size_t>(t.world.rank())] > 0) return;
  for (std::size_t b = 0; b < t.layout.buckets(); ++b) t.exchange.bucket_ready(b);
}

void Trainer::add_gradient(int slot, std::size_t parameter, const at::Tensor& gradient, More more) {
  const at::NoGradGuard no_graph;
  impl_->slots.add(slot, parameter, gradient, more);
}

StepReport Trainer::end_step() {
  const at::NoGradGuard no_graph;
  Impl& t = *impl_;
  core::internal_check(t.in_step && t.slots.complete(),
                       "every slot has completed every parameter when a step ends");
  StepReport report;
  report.loss_scale = t.scaler.scale();
  report.learning_rate = t.config.optimizer.learning_rate * factor(t.config.schedule, t.steps);
  double squares = 0;
  {
    const core::ScopedTimer timer(&report.exchange_wait_seconds);
    squares = t.exchange.wait_for_sums();
  }
  t.in_step = false;
  report.gradient_norm = std::sqrt(squares) / report.loss_scale;
  if (!std::isfinite(squares)) return t.skipped_step(std::move(report));

  const double start = core::monotonic_seconds();
  const double clip = t.config.clip_norm > 0
                          ? std::min(1.0, t.config.clip_norm / (report.gradient_norm + kClipEpsilon))
                          : 1.0;
  const UpdateStep step{t.steps + 1, report.learning_rate, clip / report.loss_scale};
  t.exchange.spread();
  for (std::size_t b = 0; b < t.layout.buckets(); ++b) {
    t.update_bucket(b, step);
    t.exchange.weights_ready(b);
  }
  t.exchange.wait_spread();
  t.scaler.update(LossScaler::Outcome::kFinite);
  ++t.steps;
  report.update_seconds = core::monotonic_seconds() - start;
  return report;
}

std::vector<at::Tensor> Trainer::Impl::gather(const std::function<at::Tensor(std::size_t)>& own) {
  at::Tensor flat;
  if (world.is_root()) flat = at::empty({layout.padded_elements()}, c10::ScalarType::Float);
  for (std::size_t b = 0; b < layout.buckets(); ++b) {
    const Range bucket = layout.bucket(b);
    const std::vector<std::uint64_t> counts(static_cast<std::size_t>(world.size()),
                                            static_cast<std::uint64_t>(layout.slice_elements(b)));
    const at::Tensor mine = own(b).cpu();
    const at::Tensor all =
        flat.defined() ? flat.narrow(0, bucket.begin, bucket.count()) : mine.narrow(0, 0, 0);
    world.gatherv(buffer_of(mine), buffer_of(all), counts);
  }
  return whole_parameters(flat);
}

std::vector<at::Tensor> Trainer::Impl::whole_parameters(const at::Tensor& flat) const {
  std::vector<at::Tensor> whole;
  if (!flat.defined()) return whole;
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const Range place = layout.parameter(p);
    whole.push_back(flat.narrow(0, place.begin, place.count()).view(parameters[p].shape));
  }
  return whole;
}

std::vector<at::Tensor> Trainer::gather_masters() {
  const at::NoGradGuard no_graph;
  Impl& t = *impl_;
  core::internal_check(!t.in_step, "weights are gathered between steps");
  if (!t.masters_are_weights) return t.gather([&](std::size_t b) { return t.masters(b); });
  // Everybody has all of them.
  if (!t.world.is_root()) return {};
  return t.whole_parameters(t.flat_weights.to(c10::DeviceType::CPU, /*non_blocking=*/false, /*copy=*/true));
}

std::vector<at::Tensor> Trainer::gather_averages() {
  const at::NoGradGuard no_graph;
  Impl& t = *impl_;
  core::internal_check(!t.in_step && t.averages(), "a moving average that is kept is gathered between steps");
  return t.gather([&](std::size_t b) { return t.own_part(t.flat_averages, b); });
}

std::vector<std::pair<std::string, double>> Trainer::memory() const {
  const Impl& t = *impl_;
  const auto bytes = [](const at::Tensor& tensor) {
    return tensor.defined() ? static_cast<double>(tensor.nbytes()) : 0.0;
  };
  std::vector<std::pair<std::string, double>> parts{{"weights", bytes(t.flat_weights)},
                                                   {"master weights", bytes(t.flat_masters)}};
  if (t.averages()) parts.emplace_back("moving average", bytes(t.flat_averages));
  parts.emplace_back("optimizer", bytes(t.first_moment) + bytes(t.second_moment));
  parts.emplace_back("gradients", t.slots.bytes() + t.exchange.bytes());
  return parts;
}

}  // namespace muster::training
