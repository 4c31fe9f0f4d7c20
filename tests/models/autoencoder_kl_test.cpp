// SPDX-License-Identifier: Apache-2.0
// AutoencoderKL against diffusers, on the fixtures of generate_autoencoders.py.
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "models/image_fixture.h"
#include "muster/nn/backend.h"

namespace muster::models {
namespace {

struct Row {
  const char* name;
  std::int64_t tile;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

constexpr Row kRows[] = {{"sd15", 8}, {"sd2", 8}, {"sdxl", 8}, {"bare", 4}};
constexpr double kTolerance = 1e-5;  // of the largest value

std::string model_folder(const std::string& name) {
  const fs::path own = fixture_root() / "autoencoders" / name;
  return fs::exists(own) ? own.string() : pipeline_folder(name);
}

/// A model with its weights, not yet prepared.
struct Model {
  formats::Safetensors checkpoint;
  AutoencoderKL autoencoder;

  Model(const std::string& folder, AutoencoderParts parts)
      : checkpoint(open_component(folder, "vae")),
        autoencoder(AutoencoderKLConfig::read(formats::read_json(folder + "/vae/config.json")), parts) {
    load_component(autoencoder, checkpoint, folder + "/vae/config.json");
  }
};

std::unique_ptr<Model> load(const std::string& name, AutoencoderParts parts = AutoencoderParts::kBoth) {
  return std::make_unique<Model>(model_folder(name), parts);
}

std::unique_ptr<Model> prepared(const std::string& name, c10::ScalarType dtype = c10::ScalarType::Float,
                                AutoencoderParts parts = AutoencoderParts::kBoth) {
  auto model = load(name, parts);
  model->autoencoder.prepare({.dtype = dtype});
  return model;
}

formats::Safetensors expected(const std::string& name) {
  return formats::Safetensors::open(
      (fixture_root() / "autoencoders" / fmt::format("{}.safetensors", name)).string());
}

class Autoencoder : public testing::TestWithParam<Row> {
 protected:
  void SetUp() override { nn::use_one_thread(); }
};

TEST_P(Autoencoder, EncodesAndDecodesAsTheReference) {
  const at::NoGradGuard no_graph;
  const auto file = expected(GetParam().name);
  const auto model = prepared(GetParam().name);
  double largest = 0;
  for (const std::string size : {"even", "odd", "one"}) {
    const double moments = relative_difference(model->autoencoder.encode(tensor_of(file, "pictures." + size)),
                                               tensor_of(file, "moments." + size));
    const double decoded = relative_difference(model->autoencoder.decode(tensor_of(file, "latents." + size)),
                                               tensor_of(file, "decoded." + size));
    EXPECT_LE(moments, kTolerance) << size;
    EXPECT_LE(decoded, kTolerance) << size;
    largest = std::max({largest, moments, decoded});
  }
  const double tiled =
      relative_difference(model->autoencoder.decode_tiled(tensor_of(file, "latents.tiled"), GetParam().tile),
                          tensor_of(file, "decoded.tiled"));
  EXPECT_LE(tiled, kTolerance);
  fmt::print("{}: {:.1e} of the largest value, in tiles {:.1e}\n", GetParam().name, largest, tiled);
}

TEST_P(Autoencoder, OneTileIsThePictureAsAWhole) {
  const at::NoGradGuard no_graph;
  const auto latents = tensor_of(expected(GetParam().name), "latents.even");
  const auto model = prepared(GetParam().name);
  const at::Tensor whole = model->autoencoder.decode(latents);
  EXPECT_TRUE(same_bytes(whole, model->autoencoder.decode_tiled(latents, latents.size(3))));
  EXPECT_FALSE(same_bytes(whole, model->autoencoder.decode_tiled(latents, latents.size(3) - 1)));
}

TEST_P(Autoencoder, TheDecoderAloneGivesTheSame) {
  const at::NoGradGuard no_graph;
  const auto latents = tensor_of(expected(GetParam().name), "latents.even");
  const auto both = prepared(GetParam().name);
  const auto decoder = prepared(GetParam().name, c10::ScalarType::Float, AutoencoderParts::kDecoder);
  EXPECT_TRUE(same_bytes(both->autoencoder.decode(latents), decoder->autoencoder.decode(latents)));
  EXPECT_LT(decoder->autoencoder.parameter_count(), both->autoencoder.parameter_count());
}

TEST_P(Autoencoder, APictureIsTheSameAloneAndInABatch) {
  const at::NoGradGuard no_graph;
  const auto file = expected(GetParam().name);
  for (const auto dtype : {c10::ScalarType::Float, c10::ScalarType::BFloat16}) {
    const auto model = prepared(GetParam().name, dtype);
    for (const std::string size : {"even", "odd"}) {
      const at::Tensor pictures = tensor_of(file, "pictures." + size),
                       latents = tensor_of(file, "latents." + size);
      const at::Tensor moments = model->autoencoder.encode(pictures),
                       decoded = model->autoencoder.decode(latents);
      for (std::int64_t i = 0; i < latents.size(0); ++i) {
        EXPECT_TRUE(same_bytes(moments.narrow(0, i, 1), model->autoencoder.encode(pictures.narrow(0, i, 1))))
            << size << i;
        EXPECT_TRUE(same_bytes(decoded.narrow(0, i, 1), model->autoencoder.decode(latents.narrow(0, i, 1))))
            << size << i;
      }
      EXPECT_FALSE(same_bytes(decoded.narrow(0, 0, 1), decoded.narrow(0, 1, 1)));
    }
  }
}

// bf16 has 8 bits: nearer than a wrong layer could be, farther than fp32.
TEST_P(Autoencoder, Bf16StaysNearFp32) {
  const at::NoGradGuard no_graph;
  const auto file = expected(GetParam().name);
  const auto model = prepared(GetParam().name, c10::ScalarType::BFloat16);
  const double decoded = relative_difference(model->autoencoder.decode(tensor_of(file, "latents.even")),
                                             tensor_of(file, "decoded.even"));
  EXPECT_LE(decoded, 0.06);
  EXPECT_GE(decoded, 1e-4);
  fmt::print("{} in bf16: {:.1e}\n", GetParam().name, decoded);
}

TEST_P(Autoencoder, GradientsAreTheReferences) {
  const auto file = expected(GetParam().name);
  const auto model = load(GetParam().name);
  std::map<std::string, at::Tensor> leaves;
  model->autoencoder.visit_parameters([&](const std::string& name, nn::Parameter& parameter) {
    parameter.value = parameter.value.to(at::kFloat, false, true).requires_grad_();
    leaves[name] = parameter.value;
  });
  const at::Tensor loss =
      (model->autoencoder.encode(tensor_of(file, "pictures.even")) * tensor_of(file, "moment_weights"))
          .sum() +
      (model->autoencoder.decode(tensor_of(file, "latents.even")) * tensor_of(file, "picture_weights")).sum();
  loss.backward();
  double largest = 0;
  std::size_t compared = 0;
  for (const std::string& name : file.names()) {
    if (!name.starts_with("gradient:")) continue;
    const at::Tensor gradient = leaves.at(name.substr(9)).grad();
    ASSERT_TRUE(gradient.defined()) << name;
    const double difference = relative_difference(gradient, tensor_of(file, name));
    EXPECT_LE(difference, 2 * kTolerance) << name;
    largest = std::max(largest, difference);
    ++compared;
  }
  EXPECT_GE(compared, 5u);
  for (const auto& [name, leaf] : leaves) EXPECT_TRUE(leaf.grad().defined()) << name;
  fmt::print("{}: gradients {:.1e} of the largest value\n", GetParam().name, largest);
}

INSTANTIATE_TEST_SUITE_P(Fixture, Autoencoder, testing::ValuesIn(kRows),
                         [](const auto& info) { return std::string(info.param.name); });

struct ConfigRow {
  const char* what;
  const char* from;
  const char* to;
  std::vector<std::string> parts;  // of the message; none: it is read
};

const ConfigRow kConfigRows[] = {
    {"as it is", "", "", {}},
    {"absent keys are diffusers' defaults", "\"scaling_factor\": 0.18215,", "", {}},
    {"another decoder",
     "\"UpDecoderBlock2D\"",
     "\"AttnUpDecoderBlock2D\"",
     {"'up_block_types[0]' is 'AttnUp", "known: UpDecoderBlock2D"}},
    {"levels",
     "\"down_block_types\": [",
     "\"down_block_types\": [\"DownEncoderBlock2D\", ",
     {"'down_block_types' has 3 entries, but block_out_channels has 2"}},
    {"activation", "\"silu\"", "\"gelu\"", {"'act_fn' is 'gelu'; known: silu"}},
    {"groups",
     "\"norm_num_groups\": 4",
     "\"norm_num_groups\": 5",
     {"'block_out_channels[0]' is 8, which norm_num_groups=5 does not divide"}},
    {"channels", "8,", "0,", {"'block_out_channels[0]' is 0, expected 1 to"}},
    {"scaled channels", "\"latents_mean\": null", "\"latents_mean\": [1, 2, 3, 4]", {}},
    {"too few of them",
     "\"latents_mean\": null",
     "\"latents_mean\": [1, 2, 3]",
     {"'latents_mean' has 3 entries, but latent_channels is 4"}},
    {"scale", "\"scaling_factor\": 0.18215", "\"scaling_factor\": 0", {"'scaling_factor' must be above 0"}},
    {"layers",
     "\"layers_per_block\": 1",
     "\"layers_per_block\": 100000",
     {"'layers_per_block' is 100000, expected 1 to"}},
};

TEST(AutoencoderConfig, IsReadOrRefusedByKey) {
  const std::string path = pipeline_folder("sd15") + "/vae/config.json";
  for (const ConfigRow& row : kConfigRows) {
    std::string text = core::read_file(path, 1 << 20), message;
    const auto at = text.find(row.from);
    ASSERT_NE(at, std::string::npos) << row.what;
    text.replace(at, std::strlen(row.from), row.to);
    try {
      AutoencoderKLConfig::read(formats::parse_json(text, "config.json"));
    } catch (const std::exception& error) {
      message = error.what();
    }
    EXPECT_EQ(message.empty(), row.parts.empty()) << row.what << ": " << message;
    for (const auto& part : row.parts)
      EXPECT_NE(message.find(part), std::string::npos) << row.what << ": " << message;
  }
}

// Counted by hand from the shapes: two pixels of latents, 3 x 3 and 1 x 1 convolutions.
TEST(AutoencoderCosts, FlopsAndActivationsOfASmallDecoder) {
  const AutoencoderKLConfig config{.channels = {4, 8}, .layers = 1, .norm_groups = 2};
  const AutoencoderKL model(config, AutoencoderParts::kDecoder);
  const double inner = 2 * 8 * 8 * 9;  // a multiply and an add a weight and pixel
  const double low = 2 * 4 * 4 + 2 * 4 * 8 * 9 + 4 * inner + 4 * 2 * 8 * 8  // post_quant, conv_in, mid
                     + 4 * 2 * 8                                            // attention of 2 pixels to 2
                     + 4 * inner;                                           // up_blocks.0
  const double high = inner + (2 * 8 * 4 * 9 + 2 * 4 * 4 * 9 + 2 * 8 * 4) +
                      2 * (2 * 4 * 4 * 9)  // up_blocks.1
                      + 2 * 4 * 3 * 9;
  EXPECT_DOUBLE_EQ(model.decode_flops(1, 2), 2 * low + 8 * high);
  EXPECT_DOUBLE_EQ(model.decode_activation_bytes(1, 2, 2), 8 * 2 * (2 * 8 + 4) + 8 * 3 * 4);
}

}  // namespace
}  // namespace muster::models
