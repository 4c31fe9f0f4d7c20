// SPDX-License-Identifier: Apache-2.0
// The task `text_to_image`: captioned pictures -> a StableDiffusionPipeline in diffusers' layout.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <optional>

#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/diffusion/text_to_image.h"
#include "muster/models/diffusion_folder.h"
#include "muster/nn/backend.h"
#include "muster/text/clip_vocabulary.h"
#include "phases/text_model/model_choice.h"
#include "phases/train/picture_phase.h"
#include "phases/train/text_to_image_options.h"
#include "phases/train/train.h"
#include "phases/train/train_report.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolder = "pipeline";
constexpr const char* kSamples = "samples";
constexpr std::uint64_t kUnetSeed = 0, kTextSeed = std::uint64_t{1} << 62;  // added to the job's
constexpr std::uint64_t kMostFileBytes = std::uint64_t{1} << 40;

// A part's folder, whose name is also its name in the pipeline.
void load_part(nn::Module& part, const fs::path& folder) {
  const auto checkpoint = models::open_component(folder.parent_path().string(), folder.filename().string());
  models::load_component(part, checkpoint, (folder / "config.json").string());
  // Copies: the checkpoint does not outlive this function.
  models::set_weights(part, models::loaded_weights(part));
}

void copy_folder(const fs::path& from, const fs::path& to) {
  core::make_directories(to.string());
  for (const auto& entry : fs::directory_iterator(from)) {
    if (!entry.is_regular_file()) continue;
    const auto path = (to / entry.path().filename()).string();
    const core::UniqueFd file = core::create_for_writing(path);
    core::write_all(file.get(), core::read_file(entry.path().string(), kMostFileBytes), path);
    core::sync(file.get(), path);
  }
  core::sync_directory(to.string());
}

/// UNet and text encoder, of which the trainer sees one list of weights.
struct Models {
  explicit Models(const TextToImageOptions& options) : unet(options.unet), text(options.text) {}
  models::UNet2D unet;
  models::ClipText text;

  std::size_t unet_weights() { return models::part_parameters(unet).size(); }
};

class TextToImagePhase : public PicturePhase {
 public:
  explicit TextToImagePhase(const PhaseContext& context)
      : PicturePhase(context),
        options_(read_text_to_image_options(config())),
        objective_(options_.objective),
        models_(std::make_unique<Models>(options_)) {
    Captions({}, options_.captions);  // refuses templates that are none
  }

  io::Identity identity() const override {
    io::Identity identity = PicturePhase::identity();
    identity["vae.sha256"] = folder_digest(options_.vae, {"config.json"}, ".safetensors");
    if (!options_.pipeline.empty())
      identity.merge(model_digests(options_.pipeline, diffusion::pipeline_files(options_.pipeline)));
    return identity;
  }

  void check() override {
    PicturePhase::check();
    load_autoencoder();
    first_weights();
  }

  void start(StepContext& context) override {
    load_pictures(context);
    count_steps(context);
    captions_.emplace(pictures().texts, options_.captions);
    make_tokenizer(context);
    encode_pictures(context);
    make_engine(first_weights());
    for (int worker = 0; worker < workers(); ++worker) {
      auto& replica = replicas_.emplace_back();
      replica.models = std::make_unique<Models>(options_);
      const auto weights = trainer().weights();
      const std::size_t of_unet = replica.models->unet_weights();
      replica.leaves = models::set_leaves(replica.models->unet, weights.first(of_unet));
      const auto of_text = models::set_leaves(replica.models->text, weights.subspan(of_unet));
      replica.leaves.insert(replica.leaves.end(), of_text.begin(), of_text.end());
    }
    resume();
    context.facts["pictures"] = std::to_string(pictures().size());
    context.facts["global_batch"] = std::to_string(options_.global_batch);
    context.facts["vocabulary"] = std::to_string(tokenizer_->vocab_size());
    note_memory(static_cast<double>(latents_.nbytes()));
  }

  std::vector<std::string> publish() override {
    std::vector<std::string> files;
    const std::string draft = context().run.run_file(kFolder);
    context().begins("writing the pipeline");
    write_pipeline(draft);
    comm::collectively(context().world, [&] {
      if (!context().world.is_root()) return;
      replace_folder(draft, context().run.file(kFolder));
      for (const char* name : {kFolder, kSamples}) add_files(name, files);
    });
    publish_losses(files);
    return files;
  }

 protected:
  const PictureOptions& options() const override { return options_; }
  std::string task() const override { return "text_to_image"; }
  std::vector<training::ParameterSpec> parameters() const override {
    std::vector<training::ParameterSpec> specs;
    const auto add = [&](const std::string& prefix, nn::Module& part) {
      for (const auto& parameter : models::part_parameters(part))
        specs.push_back({prefix + parameter.name, parameter.shape, parameter.decays});
    };
    add("unet.", models_->unet);
    add("text_encoder.", models_->text);
    return specs;
  }
  std::span<const at::Tensor> leaves(int worker) const override {
    return replicas_[static_cast<std::size_t>(worker)].leaves;
  }
  double kept_numbers() const override {
    double sum = 0;
    auto side = static_cast<double>(options_.unet.sample_size);
    for (std::size_t i = 0; i < options_.unet.channels.size(); ++i) {
      const auto blocks =
          static_cast<double>((2 * options_.unet.layers[i] + 1) * (1 + options_.unet.transformers[i]));
      sum += kept_by_blocks(blocks, static_cast<double>(options_.unet.channels[i]), side * side);
      side /= 2;
    }
    return sum;
  }
  at::Tensor loss(const MicroBatch& batch) const override;
  void end_epoch() override {
    const auto& samples = options_.samples;
    const std::uint64_t epoch = state().epoch + 1;
    if (samples.prompts.empty() || samples.every == 0 || epoch % samples.every != 0) return;
    const std::string pipeline = context().run.run_file("sampled");
    context().begins(fmt::format("writing the pipeline of epoch {}", epoch));
    write_pipeline(pipeline);
    const int failed =
        make_samples(context().world, samples,
                     {.pipeline = pipeline,
                      .folder = context().run.file(kSamples),
                      .epoch = epoch,
                      .device = device(),
                      .compute_type = options_.compute_type,
                      .alive = [&] { context().begins(fmt::format("sample pictures of epoch {}", epoch)); }});
    if (failed > 0) context().facts["sample_failures"] = fmt::format("{} ranks in epoch {}", failed, epoch);
  }

 private:
  struct Replica {
    std::unique_ptr<Models> models;
    std::vector<at::Tensor> leaves;  ///< the UNet's, then the text encoder's
  };

  static std::string folder_digest(const std::string& folder, std::vector<std::string> files,
                                   const std::string& ending) {
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().filename().string().ends_with(ending)) files.push_back(entry.path().filename());
    std::sort(files.begin(), files.end());
    std::string all;
    for (const auto& file : files) all += file + core::sha256_file((fs::path(folder) / file).string());
    core::Sha256 digest;
    digest.update(std::string_view(all));
    return digest.finish_hex();
  }

  std::unique_ptr<models::AutoencoderKL> load_autoencoder() const {
    const fs::path folder(options_.vae);
    const auto config =
        models::AutoencoderKLConfig::read(formats::read_json((folder / "config.json").string()));
    auto model = std::make_unique<models::AutoencoderKL>(config, models::AutoencoderParts::kBoth);
    load_part(*model, folder);
    model->prepare({.device = nn::torch_device(device()), .dtype = c10::ScalarType::Float});
    return model;
  }

  std::vector<at::Tensor> first_weights() const {
    Models fresh(options_);
    std::vector<at::Tensor> weights;
    const auto add = [&](nn::Module& part, const char* name, std::uint64_t seed, const char* zeroed) {
      if (!options_.pipeline.empty()) load_part(part, fs::path(options_.pipeline) / name);
      for (auto& weight : options_.pipeline.empty() ? models::first_weights(part, seed, zeroed)
                                                    : models::loaded_weights(part))
        weights.push_back(std::move(weight));
    };
    add(fresh.unet, "unet", options_.seed + kUnetSeed, "conv_out.weight");
    add(fresh.text, "text_encoder", options_.seed + kTextSeed, "");
    return weights;
  }

  void make_tokenizer(StepContext& context);
  void encode_pictures(StepContext& context);
  at::Tensor encode_one(const models::AutoencoderKL& model, std::uint32_t picture, Flip flip) const;
  void write_pipeline(const std::string& folder);
  void write_folder(const std::string& folder, const std::vector<at::Tensor>& weights);

  TextToImageOptions options_;
  NoiseObjective objective_;
  std::unique_ptr<Models> models_;  ///< the structure alone
  std::optional<Captions> captions_;
  std::optional<text::Tokenizer> tokenizer_;
  std::string tokenizer_folder_;
  at::Tensor latents_;  ///< fp32 [pictures, ...], scaled; behind them those of the mirrored pictures
  std::vector<Replica> replicas_;  ///< one a worker
};

// The vocabulary is a function of the captions: every start learns the same one.
void TextToImagePhase::make_tokenizer(StepContext& context) {
  context.begins("learning a vocabulary");
  const bool is_new = options_.pipeline.empty();
  tokenizer_folder_ =
      is_new ? context.run.run_file("tokenizer") : (fs::path(options_.pipeline) / "tokenizer").string();
  comm::collectively(context.world, [&] {
    if (!is_new || !context.world.is_root()) return;
    const auto learnt =
        text::learn_clip_vocabulary(captions_->all(), static_cast<std::uint32_t>(options_.text.vocab));
    models::save_clip_tokenizer(tokenizer_folder_, learnt.vocabulary, learnt.merges, options_.text.positions);
  });
  comm::collectively(context.world, [&] {
    tokenizer_.emplace(text::Tokenizer::load(tokenizer_folder_));
    if (tokenizer_->vocab_size() > static_cast<std::uint32_t>(options_.text.vocab))
      throw core::DataError(
          fmt::format("{}: the tokenizer gives ids up to {}, but the text encoder has {} embeddings",
                      tokenizer_folder_, tokenizer_->vocab_size() - 1, options_.text.vocab));
  });
  if (is_new) options_.text.eos_token = tokenizer_->vocab_size() - 1;
}

at::Tensor TextToImagePhase::encode_one(const models::AutoencoderKL& model, std::uint32_t picture,
                                        Flip flip) const {
  const std::uint32_t one[] = {picture};
  at::Tensor x = pictures().batch(one);
  if (flip == Flip::kHalfOfThem) x = x.flip({3});
  const auto& config = model.config();
  const at::Tensor mean = model.encode(x.to(nn::torch_device(device()))).chunk(2, 1)[0];
  return (mean.to(c10::ScalarType::Float).cpu() * config.scaling_factor).contiguous();
}

// Once for all epochs; every rank its share, and everybody gets everything.
void TextToImagePhase::encode_pictures(StepContext& context) {
  auto& world = context.world;
  context.begins("encoding the pictures");
  const std::uint64_t all = pictures().size() * (options_.flip == Flip::kHalfOfThem ? 2 : 1);
  const auto ranks = static_cast<std::uint64_t>(world.size()),
             rank = static_cast<std::uint64_t>(world.rank());
  std::string mine;
  comm::collectively(world, [&] {
    const c10::InferenceMode inference;
    nn::use_one_thread();
    const auto model = load_autoencoder();
    for (std::uint64_t i = all * rank / ranks; i < all * (rank + 1) / ranks; ++i) {
      const auto picture = static_cast<std::uint32_t>(i % pictures().size());
      const at::Tensor latent =
          encode_one(*model, picture, i < pictures().size() ? Flip::kNever : Flip::kHalfOfThem);
      mine.append(static_cast<const char*>(latent.const_data_ptr()), latent.nbytes());
    }
  });
  std::string blob;
  for (const auto& part : world.gather_strings(mine)) blob += part;
  blob = world.broadcast_string(blob);
  const std::int64_t side = options_.unet.sample_size;
  latents_ = at::empty({static_cast<std::int64_t>(all), options_.unet.in_channels, side, side},
                       c10::ScalarType::Float);
  core::internal_check(blob.size() == latents_.nbytes(), "every picture has latents of the UNet's size");
  std::memcpy(latents_.mutable_data_ptr(), blob.data(), blob.size());
}

at::Tensor TextToImagePhase::loss(const MicroBatch& batch) const {
  const auto& models = *replicas_[static_cast<std::size_t>(batch.worker)].models;
  const auto count = static_cast<std::int64_t>(batch.items.size());
  const auto positions = static_cast<std::uint32_t>(options_.text.positions);
  std::vector<std::uint64_t> seeds;
  std::vector<float> places;
  std::vector<std::int64_t> ids, rows;
  for (const std::uint32_t picture : batch.items) {
    auto random = draws(picture, batch.number);
    seeds.push_back(random.next_u64());
    places.push_back(random.next_uniform());
    const bool mirrored = options_.flip == Flip::kHalfOfThem && random.next_uniform() < 0.5F;
    rows.push_back(picture + (mirrored ? pictures().size() : 0));
    append_ids(*tokenizer_, captions_->draw(picture, random), positions, ids);
  }
  const auto longs = [](const std::vector<std::int64_t>& values) {
    at::Tensor out = at::empty({static_cast<std::int64_t>(values.size())}, c10::ScalarType::Long);
    std::copy(values.begin(), values.end(), out.mutable_data_ptr<std::int64_t>());
    return out;
  };
  const at::Tensor latents = at::index_select(latents_, 0, longs(rows));
  const at::Tensor noise = PicturePhase::noise(seeds, latents.sizes().slice(1).vec());
  const auto task = objective_.make(latents, noise, places);
  const auto place = nn::torch_device(device());
  const at::Tensor hidden = models.text.forward(longs(ids).view({count, positions}).to(place)).last;
  const auto condition = models.unet.condition(hidden, {});
  const at::Tensor answer =
      models.unet.forward(task.input.to(place, compute_dtype()), task.times.to(place), condition);
  const at::Tensor error = (answer - task.target.to(place)).square().mean({1, 2, 3});
  return (error * task.weights.to(place)).sum();
}

void TextToImagePhase::write_pipeline(const std::string& folder) {
  const auto weights = gather_result();
  comm::collectively(context().world, [&] {
    if (!context().world.is_root()) return;
    fs::remove_all(folder);
    write_folder(folder, weights);
  });
}

void TextToImagePhase::write_folder(const std::string& folder, const std::vector<at::Tensor>& weights) {
  const fs::path path(folder);
  core::make_directories(folder);
  const std::span<const at::Tensor> all(weights);
  const std::size_t of_unet = models_->unet_weights();
  models::save_unet((path / "unet").string(), options_.unet,
                    {.part = models_->unet, .weights = all.first(of_unet), .type = options_.saved_type});
  models::save_clip_text(
      (path / "text_encoder").string(), options_.text,
      {.part = models_->text, .weights = all.subspan(of_unet), .type = options_.saved_type});
  copy_folder(tokenizer_folder_, path / "tokenizer");
  copy_folder(options_.vae, path / "vae");
  models::save_pipeline_index(folder, objective_.schedule());
}

}  // namespace

PhaseInfo text_to_image_phase() {
  PhaseInfo info;
  info.name = "train";
  info.variant = "text_to_image";
  info.item = "pictures";
  info.unit = "pictures";
  info.schema = text_to_image_schema();
  info.schema.add(task_key());
  info.create_step = [](const PhaseContext& context) { return std::make_unique<TextToImagePhase>(context); };
  info.resolve_once = decide_global_batch;
  info.report = train_sections;
  return info;
}

}  // namespace muster::phases
