// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/sample.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <mutex>
#include <set>
#include <tuple>

#include "muster/core/clock.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/models/clip_score.h"
#include "muster/models/text_encoder.h"
#include "phases/sample/choices.h"
#include "phases/sample/contact_sheets.h"
#include "phases/sample/picture_files.h"
#include "phases/sample/preference_pairs.h"
#include "phases/sample/published_pictures.h"
#include "phases/sample/sample_options.h"
#include "phases/sample/sample_plan.h"
#include "phases/sample/sample_report.h"
#include "phases/sample/sample_worker.h"
#include "phases/text_model/model_choice.h"
#include "phases/version.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

// An item's length is its work in units of a million floating-point operations.
constexpr double kUnit = 1e6;
// There are more ranks than batches sooner than with texts: batches are smaller, and shrink earlier.
constexpr std::uint64_t kMostTogether = 8;
constexpr double kTaper = 0.5;

class SamplePhase : public ItemPhase {
 public:
  explicit SamplePhase(const PhaseContext& context)
      : options_(read_sample_options(context.config, context.device)),
        description_(diffusion::describe_pipeline(options_.pipeline.folder)) {
    complete(options_, context.config, description_);
    diffusion::check_request(description_, options_.usual);
    workshop_.source = {.model_name = model_name(context.config.string("model.path")),
                        .model_sha256 = "",
                        .sampler = options_.sampler_name,
                        .dtype = models::compute_type_name(options_.pipeline.compute_type),
                        .long_prompt = context.config.string("sample.long_prompt"),
                        .adapters = {}};
  }

  io::Identity identity() const override {
    auto identity =
        model_digests(options_.pipeline.folder, diffusion::pipeline_files(options_.pipeline.folder));
    const auto& adapters = options_.pipeline.adapters;
    for (std::size_t i = 0; i < adapters.size(); ++i) {
      identity[fmt::format("adapter.{}.sha256", i)] = digest_path(adapters[i].path);
      identity[fmt::format("adapter.{}.scale", i)] = fmt::format("{}", adapters[i].scale);
    }
    if (!options_.clip_model.empty()) {
      const auto folder = find_model_folder(options_.clip_model);
      const auto clip = model_digests(folder, models::clip_score_files(folder));
      identity["clip.sha256"] = core::sha256_hex(clip.at("model.sha256") + clip.at("tokenizer.sha256"));
    }
    if (!options_.latents_path.empty()) identity["latents.sha256"] = core::sha256_file(options_.latents_path);
    return identity;
  }

  void prepare(std::string_view text, PreparedItem& out) const override {
    PromptPayload payload{.row = std::string(text), .problem = ""};
    const auto request = request_of(formats::parse_prompt_row(text), options_);
    const auto work = work_of(request);
    payload.problem = work.problem;
    out = {.length = work.units,
           .truncated = work.problem.empty() && is_truncated(request),
           .payload = payload.pack()};
  }

  plan::CutConfig cut() const override {
    const bool cpu = options_.pipeline.device.kind == device::Kind::kCpu;
    const std::uint64_t together = cpu ? 1 : pictures_together();
    return {.batch_tokens = together * work_of(options_.usual).units,
            .batch_items = options_.batch_size,
            .tile = 1,
            .taper = kTaper,
            .cost = {.per_item = 0, .linear = 1, .quadratic = 0}};
  }

  Footprint footprint() const override {
    auto footprint = sample_footprint(options_, description_, pictures_together());
    footprint.flops = {.per_item = 0, .linear = kUnit, .quadratic = 0};
    return footprint;
  }

  // Half of the pixels: the runner asks for twice that, and pictures are not written twice.
  std::uint64_t result_bytes() const override {
    const std::uint64_t pixels = std::uint64_t{options_.usual.width} * options_.usual.height;
    const std::uint64_t latents = options_.latents == Keep::kYes
                                      ? pixels / description_.factor / description_.factor *
                                            description_.latent_channels * sizeof(float)
                                      : 0;
    return pixels * 3 / 2 + latents;
  }

  int ranks_an_item(int ranks) const override {
    if (options_.parallel == Parallel::kPrompt) return 1;
    return options_.parallel == Parallel::kNone ? ranks : std::min(options_.unet_ranks, ranks);
  }
  int most_workers() const override {
    return options_.parallel == Parallel::kUnet ? 1 : std::numeric_limits<int>::max();
  }

  void join(const RankContext& context) override {
    directory_ = context.directory;
    rank_ = static_cast<std::uint32_t>(context.rank);
    if (options_.parallel == Parallel::kUnet && context.group->size() > 1) group_ = context.group;
    name_source(context.identity);
    core::make_directories((fs::path(directory_) / kPictureFolder).string());
  }

  void load() override {
    pipeline_ = diffusion::load_text_to_image(options_.pipeline);
    if (!options_.latents_path.empty())
      workshop_.noise = std::make_unique<InitialNoise>(options_.latents_path);
    if (workshop_.source.model_sha256.empty()) name_source(identity());
    if (group_) pipeline_->share_unet(group_);
  }

  std::unique_ptr<ItemWorker> make_worker() override {
    core::internal_check(pipeline_ != nullptr, "the model is not loaded");
    return std::make_unique<SampleWorker>(workshop_, *pipeline_, group_ ? nullptr : pipeline_->make_worker());
  }

  void serve(const std::function<void()>& alive) override {
    if (!group_) return;
    models::prepare_compute_thread();
    pipeline_->serve(alive);
  }
  void dismiss() override {
    if (group_) pipeline_->dismiss();
  }

  std::function<void(formats::Record&)> seal() override {
    return [this](formats::Record& record) { seal_picture(directory_, rank_, record); };
  }

  IntactCheck is_intact(const std::string& directory) const override {
    return [directory](std::uint64_t row, std::span<const std::byte> payload) {
      const auto picture = unpack_picture(payload);
      return picture && picture_is_intact(directory, row, *picture);
    };
  }

  std::vector<std::string> publish(PublishContext& context) override {
    const PublishedPictures pictures(context);
    std::vector<std::string> files{"images.h5"};
    comm::collectively(context.world, [&] {
      if (context.world.is_root()) write_images(context, pictures);
    });
    if (options_.contact_sheet == Keep::kYes)
      for (auto& name : write_contact_sheets(context, pictures, options_.thumbnail))
        files.push_back(std::move(name));
    if (options_.pairs != PairsFormat::kNone) files.push_back(write_pairs(context, pictures, options_));
    comm::collectively(context.world, [&] {
      if (context.world.is_root()) list_pictures(context, pictures, files);
    });
    return files;
  }

  std::vector<std::byte> published(const std::string& directory, std::uint64_t position) const override {
    return published_picture(directory, position);
  }
  std::vector<std::byte> as_published(std::span<const std::byte> payload) const override {
    return as_published_picture(payload);
  }

 private:
  struct Work {
    std::uint32_t units = 1;
    std::string problem;  ///< why it cannot be drawn
  };

  // Few sizes and steps are asked for by many prompts, and each takes a look at the whole structure of the
  // model.
  Work work_of(const diffusion::PictureRequest& request) const {
    const std::lock_guard lock(works_mutex_);
    const auto [known, is_new] =
        works_.try_emplace({request.width, request.height, request.steps, request.guidance > 1}, Work());
    if (!is_new) return known->second;
    try {
      diffusion::check_request(description_, request);
      constexpr double kMost = std::numeric_limits<std::uint32_t>::max();
      known->second.units =
          static_cast<std::uint32_t>(std::clamp(std::ceil(description_.flops(request) / kUnit), 1.0, kMost));
    } catch (const core::ConfigError& error) {
      known->second.problem = error.what();
    }
    return known->second;
  }

  std::uint64_t pictures_together() const {
    if (options_.batch_size > 0) return options_.batch_size;
    const std::uint64_t pixels = std::uint64_t{options_.usual.width} * options_.usual.height;
    return std::clamp<std::uint64_t>(kBatchPixels / pixels, 1, kMostTogether);
  }

  bool is_truncated(const diffusion::PictureRequest& request) const {
    if (options_.pipeline.long_prompt == diffusion::LongPrompt::kChunk) return false;
    const auto is_long = [&](const std::string& text) {
      const auto length = description_.prompt_length(text);
      return length.tokens > length.most;
    };
    return is_long(request.prompt) || (request.guidance > 1 && is_long(request.negative_prompt));
  }

  void name_source(const io::Identity& identity) {
    workshop_.source.model_sha256 = identity.at("model.sha256");
    workshop_.source.adapters.clear();
    for (std::size_t i = 0; i < options_.pipeline.adapters.size(); ++i) {
      const auto& adapter = options_.pipeline.adapters[i];
      workshop_.source.adapters.push_back({.name = adapter_name(adapter.path),
                                           .sha256 = identity.at(fmt::format("adapter.{}.sha256", i)),
                                           .scale = adapter.scale});
    }
  }

  void write_images(PublishContext& context, const PublishedPictures& pictures) {
    ImagesFile file{.path = context.run.file("images.h5"),
                    .attributes = context.attributes,
                    .ids = {},
                    .step = context.step};
    for (std::uint64_t i = 0; i < pictures.size(); ++i) file.ids.push_back(context.next_id());
    file.attributes["schema_version"] = std::int64_t{1};
    file.attributes["model_path"] = options_.pipeline.folder;
    file.attributes["dtype"] = workshop_.source.dtype;
    file.attributes["sampler"] = options_.sampler_name;
    file.attributes["muster_version"] = std::string(kVersion);
    file.attributes["commit"] = std::string(kCommit);
    for (const auto& [name, value] : identity()) file.attributes[attribute_name(name)] = value;
    const auto totals = write_images_file(file, pictures);
    context.facts["truncated"] = std::to_string(totals.truncated);
    context.facts["decoded_again"] = std::to_string(totals.decoded_again);
  }

  static void list_pictures(const PublishContext& context, const PublishedPictures& pictures,
                            std::vector<std::string>& files) {
    std::set<std::string> names;
    for (std::uint64_t i = 0; i < pictures.size(); ++i)
      names.insert(picture_file(pictures.read(i).facts.rank, pictures.item(i)));
    remove_other_pictures(context.run.path(), names);
    files.insert(files.end(), names.begin(), names.end());
  }

  SampleOptions options_;
  diffusion::PipelineDescription description_;
  SampleWorkshop workshop_{.options = options_, .description = description_, .source = {}, .noise = nullptr};
  mutable std::mutex works_mutex_;
  mutable std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, bool>, Work> works_;
  std::string directory_;
  std::uint32_t rank_ = 0;
  std::shared_ptr<comm::Communicator> group_;  ///< of ranks that share the UNet; null: none do
  std::unique_ptr<diffusion::TextToImage> pipeline_;
};

}  // namespace

PhaseInfo sample_phase() {
  PhaseInfo info;
  info.name = "sample";
  info.item = "pictures";
  info.unit = "MFLOP";
  info.schema = sample_schema();
  info.create = [](const PhaseContext& context) { return std::make_unique<SamplePhase>(context); };
  info.report = sample_report;
  return info;
}

}  // namespace muster::phases
