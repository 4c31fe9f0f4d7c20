// SPDX-License-Identifier: Apache-2.0
#include "phases/train/picture_phase.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <numeric>

#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/core/problem_list.h"
#include "muster/diffusion/text_to_image.h"

namespace muster::phases {
namespace {

constexpr double kProgramBytes = 250e6;  // LibTorch, MPI and the program itself, before a model is made
constexpr std::uint64_t kFolderBytes = std::uint64_t{4} << 20;  // configs, tokenizer, sample pictures
constexpr double kKeptByABlock = 8;  // tensors: two norms' inputs and outputs, activations, products

double count(const std::vector<training::ParameterSpec>& parameters) {
  double sum = 0;
  for (const auto& parameter : parameters) {
    double size = 1;
    for (const auto extent : parameter.shape) size *= static_cast<double>(extent);
    sum += size;
  }
  return sum;
}

}  // namespace

double kept_by_blocks(double blocks, double channels, double pixels) {
  return kKeptByABlock * blocks * channels * pixels;
}

io::Identity PicturePhase::identity() const {
  return {{"pictures.sha256", pictures_digest(options().pictures)}};
}

void PicturePhase::check() {
  check_pictures(options().pictures);
}

std::uint64_t PicturePhase::disk_bytes() const {
  // Masters, moments and the average a checkpoint, one of them being written; the result twice while it is.
  const auto weights = static_cast<std::uint64_t>(count(parameters()));
  const auto checkpoints = static_cast<std::uint64_t>(options().keep_checkpoints) + 1;
  return weights * sizeof(float) * (4 * checkpoints + 2) + kFolderBytes;
}

StepPlan PicturePhase::plan(int ranks, int workers) const {
  const auto& o = options();
  const double weights = count(parameters());
  const double width = o.compute_type == models::ComputeType::kFp32 ? 4 : 2;
  const int slots = o.reproducible == Reproducible::kNo ? workers : (o.slots + ranks - 1) / ranks;
  const double a_slot = std::max(1.0, static_cast<double>(o.global_batch) / ranks / std::max(1, slots));
  const double at_once = std::min(a_slot, static_cast<double>(o.micro_batch));
  StepPlan plan;
  auto& text = plan.text;
  const auto row = [&](const std::string& name, const std::string& value) {
    text += fmt::format("  {:<26}{}\n", name, value);
  };
  const auto part = [&](const std::string& name, double bytes) {
    plan.rank_bytes += bytes;
    row("  " + name, fmt::format("{:>10}", core::human_bytes(bytes)));
  };
  text += fmt::format("plan: train ({}) on {} ranks x {} workers, {} {}\n", task(), ranks, workers,
                      config_.string("run.device"), config_.string("run.dtype"));
  row("weights", fmt::format("{:.2f} M", weights / 1e6));
  row("batch", fmt::format("{} pictures of {} x {}, {:.1f} a rank", o.global_batch, o.pictures.resolution,
                           o.pictures.resolution, static_cast<double>(o.global_batch) / ranks));
  text += "  memory a rank:\n";
  part("program", kProgramBytes);
  part("weights", weights * width);
  part("master weights", weights * 4 / ranks);
  if (o.average_decay > 0) part("moving average", weights * 4 / ranks);
  part("optimizer", weights * 8 / ranks);
  part("gradients", weights * width * (1 + slots) + weights * 4 / ranks);
  part("activations", workers * at_once * kept_numbers() * width);
  row("  together", fmt::format("{:>10}, and the pictures", core::human_bytes(plan.rank_bytes)));
  row("checkpoint",
      fmt::format("{} each, {} are kept", core::human_bytes(weights * (o.average_decay > 0 ? 16 : 12)),
                  o.keep_checkpoints));
  return plan;
}

void PicturePhase::load_pictures(StepContext& context) {
  pictures_ = phases::load_pictures(context.world, context.survey, options().pictures, context.begins);
  all_.resize(pictures_.size());
  std::iota(all_.begin(), all_.end(), 0U);
  workers_ = context.workers;
  if (context.world.is_root() && all_.empty())
    core::log::warning("there are no pictures: nothing is trained");
}

void PicturePhase::make_engine(const std::vector<at::Tensor>& initial) {
  engine_ = std::make_unique<SlotEngine>(
      SlotEngineConfig{.options = options(), .device = device_, .total_steps = steps_total()}, parameters(),
      initial, context());
  work_ = {.lengths = pictures_.lengths,
           .cost = {.per_item = 1, .linear = 0, .quadratic = 0},
           .micro_batch = options().micro_batch,
           .leaves = [this](int worker) { return leaves(worker); },
           .loss = [this](const MicroBatch& batch, double scale) { return loss(batch) * scale; },
           .too_large =
               [](std::uint32_t, const std::string& why) {
                 return fmt::format(
                     "training on one picture: {}; use fewer workers, or a smaller train.resolution", why);
               }};
}

StepOutcome PicturePhase::train_on(std::span<const std::uint32_t> batch, std::uint64_t number) {
  return engine_->step(work_, batch, number, 1 / static_cast<double>(batch.size()));
}

std::vector<at::Tensor> PicturePhase::gather_result() {
  return options().average_decay > 0 ? trainer().gather_averages() : trainer().gather_masters();
}

core::Philox PicturePhase::draws(std::uint32_t picture, std::uint64_t number) const {
  return {options().seed, pictures_.rows[picture], static_cast<std::uint32_t>(number)};
}

at::Tensor PicturePhase::noise(std::span<const std::uint64_t> seeds, std::vector<std::int64_t> each) {
  each.insert(each.begin(), static_cast<std::int64_t>(seeds.size()));
  at::Tensor out = at::empty(each, c10::ScalarType::Float);
  const std::size_t size = static_cast<std::size_t>(out.numel()) / seeds.size();
  for (std::size_t i = 0; i < seeds.size(); ++i)
    diffusion::fill_noise(seeds[i], 0, {out.mutable_data_ptr<float>() + i * size, size});
  return out;
}

}  // namespace muster::phases
