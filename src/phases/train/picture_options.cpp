// SPDX-License-Identifier: Apache-2.0
#include "phases/train/picture_options.h"

#include <fmt/format.h>

#include "muster/core/error.h"

namespace muster::phases {
namespace {

using enum config::KeyType;
constexpr auto kYes = config::AffectsResults::kYes;

config::Schema autoencoder_model() {
  config::Schema schema;
  schema
      .add({.name = "vae.channels",
            .type = kIntList,
            .default_value = "[32, 64, 128]",
            .doc = "of each level; each but the last halves height and width",
            .affects = kYes,
            .minimum = 1,
            .maximum = 1 << 14})
      .add({.name = "vae.layers",
            .type = kInt,
            .default_value = "1",
            .doc = "residual blocks of a level",
            .affects = kYes,
            .minimum = 1,
            .maximum = 64})
      .add({.name = "vae.latent_channels",
            .type = kInt,
            .default_value = "4",
            .doc = "numbers of a latent pixel",
            .affects = kYes,
            .minimum = 1,
            .maximum = 1024})
      .add({.name = "vae.norm_groups",
            .type = kInt,
            .default_value = "8",
            .doc = "of a group norm; divides every number of channels",
            .affects = kYes,
            .minimum = 1,
            .maximum = 1024})
      .add({.name = "vae.mid_attention",
            .type = kBool,
            .default_value = "true",
            .doc = "attention between the latent pixels",
            .affects = kYes});
  return schema;
}

config::Schema autoencoder_loss() {
  config::Schema schema;
  const auto weight = [&](const char* name, const char* value, const char* doc) {
    schema.add(
        {.name = name, .type = kFloat, .default_value = value, .doc = doc, .affects = kYes, .minimum = 0});
  };
  weight("train.l1_weight", "1", "factor of the mean difference");
  weight("train.l2_weight", "1", "factor of the mean squared difference");
  weight("train.edge_weight", "0", "factor of the mean difference between neighbours' differences");
  weight("train.kl_weight", "1e-4", "factor of the mean divergence of latents from a standard normal");
  return schema;
}

void check_divides(std::int64_t groups, const std::vector<std::int64_t>& channels, const std::string& keys) {
  for (const std::int64_t width : channels)
    if (width % groups != 0)
      throw core::ConfigError(fmt::format("{}.norm_groups is {}, which does not divide {} of {}.channels",
                                          keys, groups, width, keys));
}

}  // namespace

config::Schema picture_schema() {
  config::Schema schema = config::common_schema();
  // Batches are cut from the whole data set, and all pictures are of one size.
  for (const char* key :
       {"run.schedule", "run.batch_size", "run.batch_tokens", "run.window_items", "run.on_truncate"})
    schema.remove(key);
  schema.make_optional("model.path");
  schema
      .add({.name = "train.pictures",
            .doc = "folder of the pictures, whose ids are their paths; none: the input file's",
            .flags = {"--pictures"},
            .value_name = "DIR"})
      .add({.name = "train.resolution",
            .type = kInt,
            .default_value = "64",
            .doc = "pixels a side; the shorter side is scaled to it, the middle is taken",
            .flags = {"--resolution"},
            .affects = kYes,
            .minimum = 8,
            .maximum = 4096})
      .add({.name = "train.flip",
            .type = kBool,
            .default_value = "false",
            .doc = "mirror every other picture",
            .affects = kYes})
      .add({.name = "train.micro_batch",
            .type = kInt,
            .default_value = "8",
            .doc = "pictures that go through the model at once",
            .affects = kYes,
            .minimum = 1,
            .maximum = 1 << 16})
      .add({.name = "train.ema",
            .type = kFloat,
            .default_value = "0.999",
            .doc = "decay of the weights' moving average, which is the result; 0: the last weights are",
            .flags = {"--ema"},
            .affects = kYes,
            .minimum = 0,
            .maximum = 0.999999})
      .add({.name = "output.dtype",
            .default_value = "fp32",
            .doc = "type of the weights in the files",
            .affects = kYes,
            .choices = {"fp32", "fp16", "bf16"}});
  schema.add(step_schema("pictures"));
  return schema;
}

std::vector<std::int64_t> sizes_of(const config::Config& config, const std::string& key) {
  const auto values = config.integers(key);
  return {values.begin(), values.end()};
}

void read_picture_options(const config::Config& config, PictureOptions& options) {
  read_step_options(config, options);
  options.pictures = {.input = input_of(config),
                      .folder = config.string("train.pictures"),
                      .resolution = static_cast<std::uint32_t>(config.integer("train.resolution"))};
  options.flip = config.boolean("train.flip") ? Flip::kHalfOfThem : Flip::kNever;
  options.micro_batch = static_cast<std::uint64_t>(config.integer("train.micro_batch"));
  options.average_decay = config.number("train.ema");
  options.saved_type = models::saved_type_from_name(config.string("output.dtype"));
}

config::Schema autoencoder_schema() {
  return picture_schema().add(autoencoder_model()).add(autoencoder_loss());
}

AutoencoderOptions read_autoencoder_options(const config::Config& config) {
  AutoencoderOptions options;
  read_picture_options(config, options);
  auto& model = options.model;
  model.channels = sizes_of(config, "vae.channels");
  model.layers = config.integer("vae.layers");
  model.latent_channels = config.integer("vae.latent_channels");
  model.norm_groups = config.integer("vae.norm_groups");
  model.mid_attention = config.boolean("vae.mid_attention");
  model.sample_size = options.pictures.resolution;
  model.scaling_factor = 1;  // measured at the end
  model.force_upcast = false;
  if (model.channels.empty()) throw core::ConfigError("vae.channels is empty");
  check_divides(model.norm_groups, model.channels, "vae");
  if (options.pictures.resolution % static_cast<std::uint32_t>(model.factor()) != 0)
    throw core::ConfigError(
        fmt::format("train.resolution is {}, which {} levels of vae.channels cannot halve {} times",
                    options.pictures.resolution, model.channels.size(), model.channels.size() - 1));
  options.l1_weight = config.number("train.l1_weight");
  options.l2_weight = config.number("train.l2_weight");
  options.edge_weight = config.number("train.edge_weight");
  options.kl_weight = config.number("train.kl_weight");
  if (options.l1_weight + options.l2_weight <= 0)
    throw core::ConfigError("train.l1_weight and train.l2_weight are both 0: nothing would be learnt");
  return options;
}

}  // namespace muster::phases
