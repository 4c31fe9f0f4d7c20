// SPDX-License-Identifier: Apache-2.0
// CLIP's text towers against transformers' (generate_clip_text.py), alone and in batches, and their
// gradients.
#include "muster/models/clip_text.h"

#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>

#include <map>
#include <memory>
#include <vector>

#include "models/image_fixture.h"
#include "muster/core/error.h"
#include "muster/nn/backend.h"
#include "muster/nn/trainable.h"

namespace muster::models {
namespace {

using nn::ComputeTarget;
using testing::HasSubstr;

constexpr auto kFp32 = c10::ScalarType::Float;
constexpr auto kBf16 = c10::ScalarType::BFloat16;

struct TowerCase {
  const char *pipeline, *part;
};

std::string config_path(const TowerCase& tower) {
  return pipeline_folder(tower.pipeline) + "/" + tower.part + "/config.json";
}

struct LoadedText {
  explicit LoadedText(const TowerCase& tower)
      : net(ClipTextConfig::read(formats::read_json(config_path(tower)))),
        checkpoint(open_component(pipeline_folder(tower.pipeline), tower.part)) {
    load_component(net, checkpoint, config_path(tower));
  }

  ClipText net;
  formats::Safetensors checkpoint;
};

std::unique_ptr<LoadedText> prepared(const TowerCase& tower, c10::ScalarType dtype) {
  auto loaded = std::make_unique<LoadedText>(tower);
  loaded->net.prepare(ComputeTarget{.dtype = dtype});
  return loaded;
}

formats::Safetensors expected_of(const TowerCase& tower) {
  return formats::Safetensors::open(
      (fixture_root() / "clip_text" / fmt::format("{}.{}.safetensors", tower.pipeline, tower.part)).string());
}

at::Tensor ids_of(const formats::Safetensors& file, int batch) {
  const std::string name = fmt::format("{}.ids", batch);
  const auto values = values_of<std::int32_t>(file, name);
  const auto shape = file.find(name)->shape;
  at::Tensor out = at::empty({static_cast<std::int64_t>(shape[0]), static_cast<std::int64_t>(shape[1])},
                             c10::ScalarType::Long);
  std::copy(values.begin(), values.end(), out.mutable_data_ptr<std::int64_t>());
  return out;
}

std::vector<std::pair<const char*, at::Tensor>> parts_of(const ClipTextOutput& output) {
  std::vector<std::pair<const char*, at::Tensor>> out = {
      {"last", output.last}, {"penultimate", output.penultimate}, {"pooled", output.pooled}};
  if (output.projected.defined()) out.emplace_back("projected", output.projected);
  return out;
}

class ClipTextFixture : public testing::TestWithParam<TowerCase> {
 protected:
  void SetUp() override { nn::use_one_thread(); }
};

TEST_P(ClipTextFixture, EqualsTransformers) {
  const c10::NoGradGuard no_graph;
  const auto expected = expected_of(GetParam());
  struct {
    c10::ScalarType dtype;
    double tolerance;
  } const rows[] = {{kFp32, 1e-5}, {kBf16, 0.04}};
  for (const auto& row : rows) {
    const auto model = prepared(GetParam(), row.dtype);
    double largest = 0;
    for (int batch = 0; batch < 3; ++batch) {
      const auto output = model->net.forward(ids_of(expected, batch));
      EXPECT_EQ(output.projected.defined(), expected.find("0.projected").has_value());
      for (const auto& [name, value] : parts_of(output)) {
        const double one = relative_difference(value, tensor_of(expected, fmt::format("{}.{}", batch, name)));
        EXPECT_LE(one, row.tolerance) << name << " of batch " << batch << ", " << c10::toString(row.dtype);
        largest = std::max(largest, one);
      }
    }
    fmt::print("{} {} {}: largest difference {:.2g} of the largest value\n", GetParam().pipeline,
               GetParam().part, c10::toString(row.dtype), largest);
  }
}

TEST_P(ClipTextFixture, GradientsEqualTransformers) {
  const auto expected = expected_of(GetParam());
  LoadedText model(GetParam());
  std::map<std::string, at::Tensor> leaves;
  model.net.visit_parameters([&](const std::string& name, nn::Parameter& parameter) {
    parameter.value = parameter.value.to(kFp32).set_requires_grad(true);
    leaves[name] = parameter.value;
  });
  const auto output = model.net.forward(ids_of(expected, 0));
  EXPECT_LE(relative_difference(output.last.detach(), tensor_of(expected, "0.last")), 1e-5);
  const at::Tensor end = output.projected.defined() ? output.projected : output.pooled;
  const at::Tensor loss = (output.last * tensor_of(expected, "loss_weights.last")).sum() +
                          5 * (end * tensor_of(expected, "loss_weights.end")).sum();
  std::vector<std::string> names;
  std::vector<at::Tensor> wanted;
  for (const std::string& name : expected.names()) {
    if (!name.starts_with("gradient")) continue;
    names.push_back(name);
    wanted.push_back(leaves.at(name.substr(name.find('.') + 1)));
  }
  ASSERT_GE(names.size(), 7u);
  double largest = 0;
  nn::trainable::backward(loss, wanted, [&](std::size_t leaf, const at::Tensor& gradient) {
    ASSERT_TRUE(gradient.defined()) << names[leaf];
    const at::Tensor told = names[leaf].starts_with("gradient_sum") ? gradient.sum(0) : gradient;
    const double one = relative_difference(told, tensor_of(expected, names[leaf]));
    EXPECT_LE(one, 3e-5) << names[leaf];
    largest = std::max(largest, one);
  });
  fmt::print("{} {}: largest difference of {} gradients {:.2g} of their largest value\n", GetParam().pipeline,
             GetParam().part, names.size(), largest);
}

TEST_P(ClipTextFixture, ATextDoesNotDependOnItsCompanions) {
  const c10::NoGradGuard no_graph;
  const auto expected = expected_of(GetParam());
  for (const auto dtype : {kFp32, kBf16}) {
    const auto model = prepared(GetParam(), dtype);
    for (const std::int64_t length : {77, 13}) {
      const at::Tensor ids = ids_of(expected, 0).narrow(1, 0, length).contiguous();
      const auto together = parts_of(model->net.forward(ids));
      for (std::int64_t i = 0; i < ids.size(0); ++i) {
        const auto alone = parts_of(model->net.forward(ids.narrow(0, i, 1)));
        for (std::size_t k = 0; k < alone.size(); ++k)
          EXPECT_TRUE(same_bytes(alone[k].second, together[k].second.narrow(0, i, 1)))
              << alone[k].first << " of text " << i << " of " << length << " tokens, "
              << c10::toString(dtype);
      }
    }
  }
}

// A token's state depends on those before it alone.
TEST_P(ClipTextFixture, IsCausal) {
  const c10::NoGradGuard no_graph;
  const auto expected = expected_of(GetParam());
  const auto model = prepared(GetParam(), kFp32);
  at::Tensor ids = ids_of(expected, 0);
  const at::Tensor before = model->net.forward(ids).last;
  ids.narrow(1, 40, 37).fill_(3);
  const at::Tensor after = model->net.forward(ids).last;
  EXPECT_LE(relative_difference(after.narrow(1, 0, 40), before.narrow(1, 0, 40)), 1e-6);
  EXPECT_GT(relative_difference(after.narrow(1, 40, 37), before.narrow(1, 40, 37)), 1e-2);
}

INSTANTIATE_TEST_SUITE_P(Towers, ClipTextFixture,
                         testing::Values(TowerCase{"sd15", "text_encoder"}, TowerCase{"sd2", "text_encoder"},
                                         TowerCase{"sdxl", "text_encoder"},
                                         TowerCase{"sdxl", "text_encoder_2"}),
                         [](const auto& info) {
                           return fmt::format("{}_{}", info.param.pipeline, info.param.part);
                         });

ClipTextConfig config_from(const std::string& text) {
  return ClipTextConfig::read(formats::parse_json(text, "config.json"));
}

TEST(ClipTextConfig, TakesWhatPublishedFoldersHave) {
  const auto old =
      config_from(R"({"architectures":["CLIPTextModel"],"hidden_size":768,"intermediate_size":3072,
    "num_attention_heads":12,"num_hidden_layers":12,"projection_dim":768,"eos_token_id":2,"hidden_act":"quick_gelu"})");
  EXPECT_EQ(old.hidden, 768);
  EXPECT_EQ(old.eos_token, 2);
  EXPECT_EQ(old.positions, 77);
  EXPECT_EQ(old.projection, 0);  // the class has none
  const auto second = config_from(R"({"architectures":["CLIPTextModelWithProjection"],"hidden_size":1280,
    "num_attention_heads":20,"projection_dim":1280,"hidden_act":"gelu"})");
  EXPECT_EQ(second.projection, 1280);
  EXPECT_EQ(second.activation, "gelu");
  EXPECT_EQ(second.eos_token, 49407);
  ClipText net(second);
  EXPECT_NEAR(net.flops(77), 12 * 2 * (77.0 * (4 * 1280.0 * 1280 + 2 * 1280.0 * 2048) + 2.0 * 77 * 77 * 1280),
              2.1 * 1280 * 1280);
}

TEST(ClipTextConfig, NamesWhatIsWrong) {
  const std::pair<const char*, std::vector<const char*>> cases[] = {
      {R"({"hidden_size":0})", {"hidden_size", "is 0"}},
      {R"({"hidden_size":10})", {"num_attention_heads", "do not divide"}},
      {R"({"hidden_act":"swishy"})", {"hidden_act", "swishy", "quick_gelu"}},
      {R"({"layer_norm_eps":0})", {"layer_norm_eps"}},
      {R"({"vocab_size":-5})", {"vocab_size"}},
      {R"({"max_position_embeddings":99999999})", {"max_position_embeddings"}},
      {R"({"num_hidden_layers":"12"})", {"num_hidden_layers"}},
      {R"({"quantization_config":{}})", {"quantization_config", "not supported"}},
  };
  for (const auto& [text, says] : cases) {
    try {
      config_from(text);
      ADD_FAILURE() << text << " was accepted";
    } catch (const core::DataError& error) {
      for (const char* part : says) EXPECT_THAT(error.what(), HasSubstr(part)) << text;
    }
  }
}

}  // namespace
}  // namespace muster::models
