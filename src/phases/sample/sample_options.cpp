// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/sample_options.h"

#include <utility>

#include "muster/core/error.h"
#include "phases/runner/prompt_input.h"
#include "phases/sample/choices.h"
#include "phases/text_model/model_choice.h"

namespace muster::phases {
namespace {

using config::AffectsResults;
using config::HelpPlace;
using config::KeyType;
using config::Schema;

constexpr auto kYes = AffectsResults::kYes;

void add_picture(Schema& schema) {
  const auto side = [](const char* name, const char* flag, const char* doc) {
    return config::Key{.name = name,
                       .type = KeyType::kInt,
                       .default_value = "auto",
                       .doc = doc,
                       .flags = {flag},
                       .affects = kYes,
                       .auto_allowed = true,
                       .minimum = 1,
                       .maximum = 65536};
  };
  schema.add(side("sample.width", "--width", "pixels; auto: the model's own size"))
      .add(side("sample.height", "--height", "pixels; auto: the model's own size"))
      .add({.name = "sample.steps",
            .type = KeyType::kInt,
            .default_value = "50",
            .doc = "of the sampler",
            .flags = {"--steps"},
            .affects = kYes,
            .minimum = 1,
            .maximum = 100000})
      .add({.name = "sample.guidance",
            .type = KeyType::kFloat,
            .default_value = "7.5",
            .doc = "weight of the prompt; 1 and below: without guidance",
            .flags = {"--guidance", "--guidance-scale"},
            .affects = kYes,
            .minimum = 0,
            .maximum = 1000})
      .add({.name = "sample.guidance_rescale",
            .type = KeyType::kFloat,
            .default_value = "0",
            .doc = "share of the guided noise brought back to its own spread",
            .flags = {"--guidance-rescale"},
            .affects = kYes,
            .minimum = 0,
            .maximum = 1,
            .help = HelpPlace::kCompact})
      .add({.name = "sample.sampler",
            .default_value = "auto",
            .doc = "ddim, euler, euler_a, dpmpp_2m, unipc ...; auto: the model's",
            .flags = {"--sampler", "--scheduler"},
            .affects = kYes,
            .value_name = "NAME"})
      .add({.name = kCountKey,
            .type = KeyType::kInt,
            .default_value = "1",
            .doc = "pictures of each prompt",
            .flags = {"--count"},
            .affects = kYes,
            .minimum = 1,
            .maximum = formats::kMostPromptCopies})
      .add({.name = "sample.negative_prompt",
            .doc = "what should not be in the pictures",
            .flags = {"--negative-prompt"},
            .affects = kYes})
      .add({.name = "sample.long_prompt",
            .default_value = "truncate",
            .doc = "prompts longer than the text encoder takes",
            .flags = {"--long-prompt"},
            .affects = kYes,
            .choices = {"truncate", "chunk"},
            .help = HelpPlace::kCompact});
}

void add_model_use(Schema& schema) {
  schema
      .add({.name = "sample.adapters",
            .type = KeyType::kStringList,
            .default_value = "[]",
            .doc = "LoRA and DoRA files or folders, with a scale",
            .flags = {"--lora", "--dora-weights", "--adapters"},
            .value_name = "PATH[:X]..."})
      .add({.name = "sample.adapter_use",
            .default_value = "merged",
            .doc = "adapters merged into the weights, or beside them",
            .flags = {"--adapter-use"},
            .affects = kYes,
            .choices = {"merged", "live"},
            .help = HelpPlace::kCompact})
      .add({.name = "sample.parallel",
            .default_value = "prompt",
            .doc = "ranks share prompts, each UNet step, or nothing",
            .flags = {"--parallel"},
            .choices = {"prompt", "unet", "none"}})
      .add({.name = "sample.unet_ranks",
            .type = KeyType::kInt,
            .default_value = "2",
            .doc = "of parallel unet: ranks that share a step",
            .flags = {"--unet-ranks"},
            .minimum = 2,
            .maximum = 1024,
            .help = HelpPlace::kCompact})
      .add({.name = "sample.offload",
            .default_value = "none",
            .doc = "what is not in use waits in host memory",
            .flags = {"--offload", "--enable-cpu-offload"},
            .choices = {"none", "model", "sequential"},
            .bare_flag = "--enable-cpu-offload",
            .bare_value = "model"})
      .add({.name = "sample.vae_tile",
            .type = KeyType::kInt,
            .default_value = "0",
            .doc = "the VAE works in tiles on pictures larger than this; 0: never",
            .flags = {"--vae-tile"},
            .affects = kYes,
            .minimum = 0,
            .maximum = 65536,
            .help = HelpPlace::kCompact})
      .add({.name = "sample.vae_batch",
            .type = KeyType::kInt,
            .default_value = "1",
            .doc = "pictures that the VAE decodes together",
            .flags = {"--vae-batch"},
            .minimum = 1,
            .maximum = 1024,
            .help = HelpPlace::kCompact});
}

void add_output(Schema& schema) {
  schema
      .add({.name = "input.latents",
            .doc = "initial noise: a tensor an item, named by its id",
            .flags = {"--input-latents"},
            .value_name = "FILE",
            .help = HelpPlace::kCompact})
      .add({.name = "output.latents",
            .type = KeyType::kBool,
            .default_value = "false",
            .doc = "keep the final latents in images.h5",
            .flags = {"--output-latents"},
            .affects = kYes,
            .help = HelpPlace::kCompact})
      .add({.name = "output.contact_sheet",
            .type = KeyType::kBool,
            .default_value = "true",
            .doc = "contact_sheet.png: all pictures, captioned"})
      .add({.name = "output.thumbnail",
            .type = KeyType::kInt,
            .default_value = "256",
            .doc = "most pixels of a side there",
            .minimum = 16,
            .maximum = 1024})
      .add({.name = "sample.export",
            .default_value = "none",
            .doc = "preference_pairs: all pairs of a prompt's pictures",
            .flags = {"--export"},
            .affects = kYes,
            .choices = {"none", "preference_pairs"},
            .help = HelpPlace::kCompact})
      .add({.name = "sample.pairs_format",
            .default_value = "jsonl",
            .doc = "of preference_pairs",
            .flags = {"--pairs-format"},
            .affects = kYes,
            .choices = {"jsonl", "csv"},
            .help = HelpPlace::kCompact})
      .add({.name = "sample.clip_model",
            .doc = "a CLIP folder that scores the pictures of pairs",
            .flags = {"--clip-model"},
            .value_name = "MODEL",
            .help = HelpPlace::kCompact});
}

diffusion::Offload offload_from_name(const std::string& name) {
  if (name == "model") return diffusion::Offload::kModel;
  return name == "sequential" ? diffusion::Offload::kSequential : diffusion::Offload::kNone;
}

Parallel parallel_from_name(const std::string& name) {
  if (name == "unet") return Parallel::kUnet;
  return name == "none" ? Parallel::kNone : Parallel::kPrompt;
}

Keep keep(bool wanted) {
  return wanted ? Keep::kYes : Keep::kNo;
}

}  // namespace

Schema sample_schema() {
  Schema schema = config::common_schema();
  schema.remove("run.batch_tokens")
      .make_optional("input.path")
      .set_default("input.path", "[]")
      .set_default("input.text", "prompt")
      .set_doc("input.path", "prompt files, as --prompts takes them")
      .set_doc("input.text", "name of the prompt column")
      .set_doc("run.batch_size", "pictures drawn together; 0: by their size");
  schema.add({.name = kPromptsKey,
              .type = KeyType::kStringList,
              .default_value = "[]",
              .doc = "a prompt file (csv, tsv, jsonl, txt), or prompts",
              .flags = {"--prompts"},
              .value_name = "FILE|TEXT..."});
  add_picture(schema);
  add_model_use(schema);
  add_output(schema);
  return schema;
}

SampleOptions read_sample_options(const config::Config& config, const device::Device& device) {
  models::EncoderLoadConfig where{.folder = find_model_folder(config.string("model.path")),
                                  .device = device,
                                  .compute_type = models::compute_type_from_name(config.string("run.dtype")),
                                  .overrides = {}};
  if (where.compute_type == models::ComputeType::kInt8)
    throw core::ConfigError("run.dtype int8 is for text models; pictures are made in fp32, bf16 or fp16");
  models::check_hardware(where);
  const auto small = [&](const char* key) { return static_cast<std::uint32_t>(config.integer(key)); };
  SampleOptions options;
  options.pipeline.folder = where.folder;
  options.pipeline.device = device;
  options.pipeline.compute_type = where.compute_type;
  for (const auto& text : config.strings("sample.adapters"))
    for (auto& choice : parse_adapter(text)) options.pipeline.adapters.push_back(std::move(choice));
  options.pipeline.adapter_application = config.string("sample.adapter_use") == "live"
                                             ? diffusion::AdapterApplication::kLive
                                             : diffusion::AdapterApplication::kMerged;
  options.pipeline.offload = offload_from_name(config.string("sample.offload"));
  options.pipeline.long_prompt = config.string("sample.long_prompt") == "chunk"
                                     ? diffusion::LongPrompt::kChunk
                                     : diffusion::LongPrompt::kTruncate;
  options.pipeline.vae_tile = small("sample.vae_tile");
  options.pipeline.vae_batch = small("sample.vae_batch");
  options.usual.negative_prompt = config.string("sample.negative_prompt");
  options.usual.steps = small("sample.steps");
  options.usual.guidance = config.number("sample.guidance");
  options.usual.guidance_rescale = config.number("sample.guidance_rescale");
  options.seed = static_cast<std::uint64_t>(config.integer("run.seed"));
  options.parallel = parallel_from_name(config.string("sample.parallel"));
  options.unet_ranks = static_cast<int>(config.integer("sample.unet_ranks"));
  options.batch_size = small("run.batch_size");
  options.latents_path = config.string("input.latents");
  options.latents = keep(config.boolean("output.latents"));
  options.contact_sheet = keep(config.boolean("output.contact_sheet"));
  options.thumbnail = small("output.thumbnail");
  if (config.string("sample.export") == "preference_pairs")
    options.pairs = config.string("sample.pairs_format") == "csv" ? PairsFormat::kCsv : PairsFormat::kJsonl;
  options.clip_model = config.string("sample.clip_model");
  if (!options.clip_model.empty() && options.pairs == PairsFormat::kNone)
    throw core::ConfigError("sample.clip_model scores preference pairs; give --export preference_pairs, too");
  return options;
}

void complete(SampleOptions& options, const config::Config& config,
              const diffusion::PipelineDescription& description) {
  const auto side = [&](const char* key, std::uint32_t of_model) {
    return config.is_auto(key) ? of_model : static_cast<std::uint32_t>(config.integer(key));
  };
  options.usual.width = side("sample.width", description.default_width);
  options.usual.height = side("sample.height", description.default_height);
  const std::string sampler = sampler_called(config.string("sample.sampler"));
  const bool models_own = sampler == "auto" || sampler.empty();
  if (!models_own) options.usual.sampler = sampler;
  options.sampler_name = models_own ? description.sampler : sampler;
}

diffusion::PictureRequest request_of(const formats::PromptRow& row, const SampleOptions& options) {
  diffusion::PictureRequest request = options.usual;
  request.prompt = row.prompt;
  request.negative_prompt = row.negative_prompt.value_or(request.negative_prompt);
  request.seed = row.seed ? diffusion::picture_seed(*row.seed, 0, row.copy)
                          : diffusion::picture_seed(options.seed, row.row, row.copy);
  request.width = row.width.value_or(request.width);
  request.height = row.height.value_or(request.height);
  request.steps = row.steps.value_or(request.steps);
  request.guidance = row.guidance.value_or(request.guidance);
  return request;
}

}  // namespace muster::phases
