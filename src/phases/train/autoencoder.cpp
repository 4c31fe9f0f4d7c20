// SPDX-License-Identifier: Apache-2.0
// The task `autoencoder`: pictures -> an AutoencoderKL in diffusers' layout.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <cmath>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/models/diffusion_folder.h"
#include "muster/nn/backend.h"
#include "phases/train/picture_phase.h"
#include "phases/train/train.h"
#include "phases/train/train_report.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolder = "vae";

std::unique_ptr<models::AutoencoderKL> make_model(const models::AutoencoderKLConfig& config) {
  return std::make_unique<models::AutoencoderKL>(config, models::AutoencoderParts::kBoth);
}

/// What a picture tells of the finished model, added up in the order of the pictures.
struct Measures {
  double latents = 0, sum = 0, squares = 0;  ///< of the latents
  double error = 0, pixels = 0;              ///< squared, in [-1, 1]
};

class AutoencoderPhase : public PicturePhase {
 public:
  explicit AutoencoderPhase(const PhaseContext& context)
      : PicturePhase(context),
        options_(read_autoencoder_options(config())),
        model_(make_model(options_.model)) {}

  void start(StepContext& context) override {
    load_pictures(context);
    count_steps(context);
    make_engine(first_weights());
    for (int worker = 0; worker < workers(); ++worker) {
      auto& replica = replicas_.emplace_back();
      replica.model = make_model(options_.model);
      replica.leaves = models::set_leaves(*replica.model, trainer().weights());
    }
    resume();
    context.facts["pictures"] = std::to_string(pictures().size());
    context.facts["global_batch"] = std::to_string(options_.global_batch);
    note_memory(pictures().bytes());
  }

  std::vector<std::string> publish() override {
    std::vector<std::string> files;
    const auto weights = gather_result();
    auto& world = context().world;
    const std::string draft = context().run.run_file(kFolder);
    context().begins("writing the autoencoder");
    comm::collectively(world, [&] {
      if (world.is_root()) write_model(weights, draft, options_.model);
    });
    const Measures measures = measure(draft);
    comm::collectively(world, [&] {
      if (!world.is_root()) return;
      models::AutoencoderKLConfig config = options_.model;
      config.scaling_factor = scaling_factor(measures);
      fs::remove_all(draft);
      write_model(weights, draft, config);
      replace_folder(draft, context().run.file(kFolder));
      add_files(kFolder, files);
    });
    publish_losses(files);
    return files;
  }

 protected:
  const PictureOptions& options() const override { return options_; }
  std::string task() const override { return "autoencoder"; }
  std::vector<training::ParameterSpec> parameters() const override {
    std::vector<training::ParameterSpec> specs;
    for (const auto& parameter : models::part_parameters(*model_))
      specs.push_back({parameter.name, parameter.shape, parameter.decays});
    return specs;
  }
  std::span<const at::Tensor> leaves(int worker) const override {
    return replicas_[static_cast<std::size_t>(worker)].leaves;
  }
  double kept_numbers() const override {
    double sum = 0, side = options_.pictures.resolution;
    for (const auto channels : options_.model.channels) {
      const auto blocks = static_cast<double>(2 * options_.model.layers + 1);
      sum += kept_by_blocks(blocks, static_cast<double>(channels), side * side);
      side /= 2;
    }
    return sum;
  }
  at::Tensor loss(const MicroBatch& batch) const override;

 private:
  struct Replica {
    std::unique_ptr<models::AutoencoderKL> model;
    std::vector<at::Tensor> leaves;
  };

  std::vector<at::Tensor> first_weights() {
    const std::string folder = config().string("model.path");
    if (folder.empty()) return models::first_weights(*model_, options_.seed);
    const fs::path path(folder);
    const auto checkpoint = models::open_component(path.parent_path().string(), path.filename().string());
    models::load_component(*model_, checkpoint, (path / "config.json").string());
    return models::loaded_weights(*model_);
  }

  void write_model(const std::vector<at::Tensor>& weights, const std::string& folder,
                   const models::AutoencoderKLConfig& config) const {
    models::save_autoencoder(folder, config,
                             {.part = *model_, .weights = weights, .type = options_.saved_type});
  }

  Measures measure(const std::string& folder);
  Measures measure_picture(const models::AutoencoderKL& model, std::uint32_t picture) const;
  double scaling_factor(const Measures& measures);

  AutoencoderOptions options_;
  std::unique_ptr<models::AutoencoderKL> model_;
  std::vector<Replica> replicas_;  ///< one a worker
};

at::Tensor mean_of_each(const at::Tensor& x) {
  return x.mean({1, 2, 3});
}

at::Tensor AutoencoderPhase::loss(const MicroBatch& batch) const {
  const auto& model = *replicas_[static_cast<std::size_t>(batch.worker)].model;
  at::Tensor x = pictures().batch(batch.items);
  std::vector<std::uint64_t> seeds;
  for (std::size_t i = 0; i < batch.items.size(); ++i) {
    auto random = draws(batch.items[i], batch.number);
    seeds.push_back(random.next_u64());
    const bool mirrored = options_.flip == Flip::kHalfOfThem && random.next_uniform() < 0.5F;
    const auto row = static_cast<std::int64_t>(i);
    if (mirrored) x[row].copy_(x[row].flip({2}));
  }
  x = x.to(nn::torch_device(device()));
  const auto halves = model.encode(x.to(compute_dtype())).to(c10::ScalarType::Float).chunk(2, 1);
  const at::Tensor &mean = halves[0], &log_variance = halves[1];
  const at::Tensor noise =
      PicturePhase::noise(seeds, {mean.size(1), mean.size(2), mean.size(3)}).to(mean.device());
  const at::Tensor latents = mean + (0.5 * log_variance).exp() * noise;
  const at::Tensor difference = model.decode(latents.to(compute_dtype())) - x;
  at::Tensor loss = options_.l1_weight * mean_of_each(difference.abs()) +
                    options_.l2_weight * mean_of_each(difference.square());
  if (options_.edge_weight > 0) {
    loss = loss + options_.edge_weight *
                      (mean_of_each(difference.diff(1, 2).abs()) + mean_of_each(difference.diff(1, 3).abs()));
  }
  if (options_.kl_weight > 0) {
    loss = loss +
           options_.kl_weight * 0.5 * mean_of_each(mean.square() + log_variance.exp() - 1.0 - log_variance);
  }
  return loss.sum();
}

Measures AutoencoderPhase::measure_picture(const models::AutoencoderKL& model, std::uint32_t picture) const {
  const c10::InferenceMode inference;
  const std::uint32_t one[] = {picture};
  const at::Tensor x = pictures().batch(one).to(nn::torch_device(device()));
  const at::Tensor mean = model.encode(x).chunk(2, 1)[0].to(c10::ScalarType::Double);
  const at::Tensor error = (model.decode(mean.to(c10::ScalarType::Float)).clamp(-1, 1) - x).square();
  return {.latents = static_cast<double>(mean.numel()),
          .sum = mean.sum().item<double>(),
          .squares = mean.square().sum().item<double>(),
          .error = error.to(c10::ScalarType::Double).sum().item<double>(),
          .pixels = static_cast<double>(error.numel())};
}

// Every rank its share; added in the order of the pictures, so that the sums do not depend on the ranks.
Measures AutoencoderPhase::measure(const std::string& folder) {
  auto& world = context().world;
  context().begins("measuring the autoencoder");
  std::string mine;
  comm::collectively(world, [&] {
    const fs::path path(folder);
    const auto model = make_model(options_.model);
    const auto checkpoint = models::open_component(path.parent_path().string(), path.filename().string());
    models::load_component(*model, checkpoint, (path / "config.json").string());
    model->prepare({.device = nn::torch_device(device()), .dtype = c10::ScalarType::Float});
    nn::use_one_thread();
    const auto ranks = static_cast<std::uint64_t>(world.size()),
               rank = static_cast<std::uint64_t>(world.rank());
    for (std::uint64_t i = pictures().size() * rank / ranks; i < pictures().size() * (rank + 1) / ranks;
         ++i) {
      const Measures one = measure_picture(*model, static_cast<std::uint32_t>(i));
      mine.append(reinterpret_cast<const char*>(&one), sizeof one);
    }
  });
  Measures all;
  for (const auto& part : world.gather_strings(mine)) {
    for (std::size_t at = 0; at < part.size(); at += sizeof(Measures)) {
      Measures one;
      std::memcpy(&one, part.data() + at, sizeof one);
      all.latents += one.latents;
      all.sum += one.sum;
      all.squares += one.squares;
      all.error += one.error;
      all.pixels += one.pixels;
    }
  }
  return all;
}

// So that latents have unit variance: what a diffusion model is trained on (Rombach et al., 2022, section
// D.1).
double AutoencoderPhase::scaling_factor(const Measures& measures) {
  if (measures.latents == 0) return 1;
  const double mean = measures.sum / measures.latents;
  const double deviation = std::sqrt(std::max(0.0, measures.squares / measures.latents - mean * mean));
  const double psnr = 10 * std::log10(4 * measures.pixels / std::max(measures.error, 1e-12));
  core::log::info(
      "latents have a mean of {:.4g} and a deviation of {:.4g}; pictures come back with a PSNR of {:.2f} dB",
      mean, deviation, psnr);
  context().facts["latent_deviation"] = fmt::format("{:.6g}", deviation);
  context().facts["psnr"] = fmt::format("{:.4g}", psnr);
  if (!(deviation > 0) || !std::isfinite(deviation))
    throw core::DataError(
        "the autoencoder gives every picture the same latents: it has learnt nothing; train it for longer, "
        "with "
        "a lower train.lr or a lower train.kl_weight");
  return 1 / deviation;
}

}  // namespace

PhaseInfo autoencoder_phase() {
  PhaseInfo info;
  info.name = "train";
  info.variant = "autoencoder";
  info.item = "pictures";
  info.unit = "pictures";
  info.schema = autoencoder_schema();
  info.schema.add(task_key());
  info.create_step = [](const PhaseContext& context) { return std::make_unique<AutoencoderPhase>(context); };
  info.resolve_once = decide_global_batch;
  info.report = train_sections;
  return info;
}

}  // namespace muster::phases
