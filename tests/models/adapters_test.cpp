// SPDX-License-Identifier: Apache-2.0
// LoRA and DoRA against peft's and diffusers' (generate_adapters.py), in all namings, merged and live.
#include "muster/models/adapters.h"

#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>

#include <map>
#include <memory>
#include <vector>

#include "models/adapter_names.h"
#include "models/image_fixture.h"
#include "muster/core/error.h"
#include "muster/nn/backend.h"

namespace muster::models {
namespace {

using testing::HasSubstr;

constexpr auto kFp32 = c10::ScalarType::Float;

std::string adapter_path(const std::string& name) {
  return (fixture_root() / "adapters" / name).string();
}

/// A pipeline's UNet and text encoders with their weights.
class Pipeline {
 public:
  explicit Pipeline(const std::string& name)
      : name_(name), folder_(DiffusionFolder::read(pipeline_folder(name))), unet_(folder_.unet) {
    load(unet_, "unet");
    for (std::size_t i = 0; i < folder_.text_encoders.size(); ++i) {
      texts_.push_back(std::make_unique<ClipText>(folder_.text_encoders[i]));
      load(*texts_.back(), folder_.text_encoder_folders[i]);
    }
  }

  std::vector<AdapterTarget> targets() {
    std::vector<AdapterTarget> out = {{"unet", &unet_}};
    for (std::size_t i = 0; i < texts_.size(); ++i)
      out.push_back({folder_.text_encoder_folders[i], texts_[i].get()});
    return out;
  }

  /// As training has them.
  void make_fp32() {
    for (const auto& target : targets())
      target.module->visit_parameters(
          [](const std::string&, nn::Parameter& parameter) { parameter.value = parameter.value.to(kFp32); });
  }

  void prepare() {
    for (const auto& target : targets()) target.module->prepare({});
  }

  std::map<std::string, at::Tensor> run() const {
    const auto given = formats::Safetensors::open(adapter_path(name_ + ".safetensors"));
    UNetAdded added;
    if (given.find("time_ids")) added = {tensor_of(given, "text_embeds"), tensor_of(given, "time_ids")};
    std::map<std::string, at::Tensor> out;
    out["unet"] = unet_.forward(tensor_of(given, "latents"), tensor_of(given, "timesteps"),
                                unet_.condition(tensor_of(given, "hidden"), added));
    const auto ids = values_of<std::int32_t>(given, "ids");
    at::Tensor rows = at::empty({2, static_cast<std::int64_t>(ids.size()) / 2}, c10::ScalarType::Long);
    std::copy(ids.begin(), ids.end(), rows.mutable_data_ptr<std::int64_t>());
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      const auto states = texts_[i]->forward(rows);
      out[folder_.text_encoder_folders[i]] = states.last;
      if (states.projected.defined()) out["projected"] = states.projected;
    }
    return out;
  }

 private:
  void load(nn::Module& module, const std::string& part) {
    checkpoints_.push_back(open_component(pipeline_folder(name_), part));
    load_component(module, checkpoints_.back(), part);
  }

  std::string name_;
  DiffusionFolder folder_;
  std::vector<formats::Safetensors> checkpoints_;
  UNet2D unet_;
  std::vector<std::unique_ptr<ClipText>> texts_;
};

struct AdapterCase {
  const char *name, *pipeline;
  std::vector<AdapterFile> files;  ///< below the fixtures
  friend void PrintTo(const AdapterCase& c, std::ostream* out) { *out << c.name; }
};

const std::vector<AdapterCase>& cases() {
  static const std::vector<AdapterCase> all = {
      {"sd15_diffusers", "sd15", {{"sd15_diffusers/pytorch_lora_weights.safetensors"}}},
      {"sd15_diffusers_dora", "sd15", {{"sd15_diffusers_dora/pytorch_lora_weights.safetensors"}}},
      {"sd15_old", "sd15", {{"sd15_old"}}},
      {"sd15_peft", "sd15", {{"sd15_peft/unet"}}},
      {"sd15_kohya", "sd15", {{"sd15_kohya/adapter.safetensors"}}},
      {"sd15_kohya_alphas", "sd15", {{"sd15_kohya_alphas/adapter.safetensors"}}},
      {"sd15_kohya_dora", "sd15", {{"sd15_kohya_dora/adapter.safetensors"}}},
      {"sd15_kohya_dora_inputs", "sd15", {{"sd15_kohya_dora_inputs/adapter.safetensors"}}},
      {"sdxl_kohya_original", "sdxl", {{"sdxl_kohya_original/adapter.safetensors"}}},
      {"sdxl_diffusers_dora", "sdxl", {{"sdxl_diffusers_dora/pytorch_lora_weights.safetensors"}}},
      {"sdxl_peft_rslora", "sdxl", {{"sdxl_peft_rslora/text_encoder_2"}}},
      {"sd15_three",
       "sd15",
       {{"sd15_diffusers/pytorch_lora_weights.safetensors", 0.7},
        {"sd15_diffusers_dora/pytorch_lora_weights.safetensors", -0.4},
        {"sd15_kohya/adapter.safetensors", 1.5}}},
  };
  return all;
}

std::vector<AdapterFile> files_of(const AdapterCase& c) {
  std::vector<AdapterFile> out = c.files;
  for (AdapterFile& file : out) file.path = adapter_path(file.path);
  return out;
}

/// The layers that the first file changes; further ones of a case change the same.
std::size_t layers_of(const AdapterCase& c) {
  const std::string path = files_of(c).front().path;
  const auto stem = fs::is_directory(path) && fs::exists(fs::path(path) / "adapter_model.safetensors")
                        ? "adapter_model"
                        : "pytorch_lora_weights";
  const auto names = formats::Safetensors::open(path, stem).names();
  return static_cast<std::size_t>(std::count_if(names.begin(), names.end(), [](const std::string& name) {
    return parse_adapter_key(name)->role == FactorRole::kDown;
  }));
}

class AdapterFixture : public testing::TestWithParam<AdapterCase> {
 protected:
  void SetUp() override { nn::use_one_thread(); }
};

TEST_P(AdapterFixture, EqualsPeftMergedAndLive) {
  const c10::NoGradGuard no_graph;
  const auto expected =
      formats::Safetensors::open(adapter_path(std::string(GetParam().name) + "/expected.safetensors"));
  for (const auto& [use, name] : {std::pair{AdapterUse::kMerged, "merged"}, {AdapterUse::kLive, "live"}}) {
    for (const bool prepares : {true, false}) {
      Pipeline pipeline(GetParam().pipeline);
      if (!prepares) pipeline.make_fp32();
      {
        Adapters adapters(files_of(GetParam()), pipeline.targets());
        EXPECT_EQ(adapters.layers(), layers_of(GetParam()));
        adapters.apply(use);
      }
      if (prepares) pipeline.prepare();
      double largest = 0;
      for (const auto& [part, value] : pipeline.run()) {
        const double one = relative_difference(value, tensor_of(expected, part));
        EXPECT_LE(one, 1e-5) << part << ", " << name << (prepares ? ", prepared" : ", in training");
        largest = std::max(largest, one);
      }
      if (prepares)
        fmt::print("{} {}: largest difference {:.2g} of the largest value\n", GetParam().name, name, largest);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, AdapterFixture, testing::ValuesIn(cases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Adapters, MergedWeightsAreRoundedOnce) {
  Pipeline pipeline("sd15");
  Adapters adapters(files_of(cases()[0]), pipeline.targets());
  adapters.apply(AdapterUse::kMerged, c10::ScalarType::BFloat16);
  std::uint64_t rounded = 0;
  for (const auto& target : pipeline.targets())
    target.module->visit_parameters([&](const std::string&, nn::Parameter& parameter) {
      rounded += parameter.value.scalar_type() == c10::ScalarType::BFloat16;
    });
  EXPECT_EQ(rounded, adapters.layers());
}

TEST(Adapters, BytesAreThoseOfTheFiles) {
  Pipeline pipeline("sd15");
  const Adapters none({}, pipeline.targets());
  EXPECT_EQ(none.layers(), 0u);
  EXPECT_EQ(none.bytes(), 0);
  const auto files = files_of(cases()[1]);
  const Adapters one(files, pipeline.targets()), two({files[0], files[0]}, pipeline.targets());
  EXPECT_EQ(one.bytes(), formats::Safetensors::open(files[0].path).total_bytes());
  EXPECT_EQ(two.bytes(), 2 * one.bytes());
  EXPECT_EQ(two.layers(), one.layers());
}

/// A copy of a fixture's file, alone in its folder.
class DamagedAdapter {
 public:
  explicit DamagedAdapter(const std::string& file) : folder_("") {
    fs::copy_file(adapter_path(file), fs::path(folder_.path()) / "model.safetensors");
  }
  const ScratchFolder& folder() const { return folder_; }
  std::string refusal(const std::string& pipeline = "sd15") const {
    try {
      Pipeline loaded(pipeline);
      const Adapters adapters({{folder_.path()}}, loaded.targets());
      return "accepted";
    } catch (const core::DataError& error) {
      return error.what();
    }
  }

 private:
  ScratchFolder folder_;
};

using Tensors = ScratchFolder::Tensors;

void rename(Tensors& tensors, const std::string& from, const std::string& to) {
  auto node = tensors.extract(from);
  ASSERT_FALSE(node.empty()) << from;
  node.key() = to;
  tensors.insert(std::move(node));
}

TEST(Adapters, ListEveryKeyThatBelongsToNoLayer) {
  const DamagedAdapter adapter("sd15_kohya/adapter.safetensors");
  EXPECT_EQ(adapter.refusal(), "accepted");
  const std::string conv = "lora_unet_down_blocks_0_resnets_0_conv1";
  adapter.folder().change_weights([&](Tensors& tensors) {
    rename(tensors, conv + ".lora_down.weight", "lora_unet_down_blocks_7_resnets_0_conv1.lora_down.weight");
    rename(tensors, "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha", "lora_te2_text_model.alpha");
    tensors["lora_unet_conv_in.hada_w1_a"] = {"F32", {1}, std::string(4, '\0')};
  });
  const std::string message = adapter.refusal();
  for (const char* part : {"lora_unet_down_blocks_7_resnets_0_conv1.lora_down.weight", "lora_te2_text_model",
                           "belongs to no layer of unet, text_encoder", "hada_w1_a", "is no factor",
                           "no down (A) factor", "model.safetensors"})
    EXPECT_THAT(message, HasSubstr(part));
}

TEST(Adapters, NameWhatDoesNotFit) {
  const std::string conv = "lora_unet_down_blocks_0_resnets_0_conv1",
                    query = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
  struct Damage {
    const char* what;
    std::function<void(Tensors&)> change;
    std::vector<std::string> says;
  };
  const std::vector<Damage> damages = {
      {"rank",
       [&](Tensors& t) {
         t[query + ".lora_up.weight"].shape = {4, 4};
       },
       {query, "up factor is [4,4]"}},
      {"kernel",
       [&](Tensors& t) {
         t[conv + ".lora_down.weight"].shape = {2, 72};
       },
       {conv, "down factor is [2,72]", "[8,8,3,3]"}},
      {"no up", [&](Tensors& t) { t.erase(query + ".lora_up.weight"); }, {query, "no up (B) factor"}},
      {"type",
       [&](Tensors& t) {
         t[query + ".alpha"] = {"I64", {}, std::string(8, '\1')};
       },
       {query + ".alpha", "I64"}},
      {"alpha",
       [&](Tensors& t) {
         t[query + ".alpha"] = {"F16", {}, std::string("\x00\x7c", 2)};
       },
       {query + ".alpha", "finite"}},
      {"two alphas",
       [&](Tensors& t) {
         t[query + ".alpha"] = {"F16", {2}, std::string(4, '\1')};
       },
       {query + ".alpha", "one finite"}},
      {"twice",
       [&](Tensors& t) {
         t["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora.down.weight"] =
             t[query + ".lora_down.weight"];
       },
       {"attn1.to_q", query}},
      {"magnitude",
       [&](Tensors& t) {
         t[query + ".dora_scale"] = {"F16", {3}, std::string(6, '\1')};
       },
       {query + ".dora_scale", "neither the outputs nor the inputs"}},
  };
  for (const Damage& damage : damages) {
    const DamagedAdapter adapter("sd15_kohya/adapter.safetensors");
    adapter.folder().change_weights(damage.change);
    const std::string message = adapter.refusal();
    for (const auto& part : damage.says) EXPECT_THAT(message, HasSubstr(part)) << damage.what;
  }
}

TEST(Adapters, NamesWithoutAPartFindTheirModel) {
  const DamagedAdapter adapter("sdxl_peft_rslora/text_encoder_2/adapter_model.safetensors");
  EXPECT_EQ(adapter.refusal("sdxl"), "accepted");  // text_projection is the second's alone
  adapter.folder().change_weights([](Tensors& tensors) {
    std::erase_if(tensors,
                  [](const auto& entry) { return entry.first.find("projection") != std::string::npos; });
  });
  EXPECT_THAT(adapter.refusal("sdxl"), HasSubstr("text_encoder or text_encoder_2"));
  const DamagedAdapter attention("sd15_old/pytorch_lora_weights.safetensors");
  attention.folder().change_weights([](Tensors& tensors) {
    Tensors bare;
    for (auto& [name, tensor] : tensors)
      if (name.starts_with("unet.")) bare[name.substr(5)] = tensor;
    tensors = bare;
  });
  EXPECT_EQ(attention.refusal(), "accepted");
}

TEST(Adapters, FoldersAndSettings) {
  const DamagedAdapter adapter("sd15_peft/unet/adapter_model.safetensors");
  const auto& folder = adapter.folder();
  const std::pair<const char*, const char*> configs[] = {
      {R"({"peft_type":"LOHA"})", "peft_type"},
      {R"({"lora_alpha":"x"})", "lora_alpha"},
      {R"({"alpha_pattern":{"layers.[01]":2}})", "plain names"},
      {R"({"layer_replication":[[0,4]]})", "layer_replication"},
      {"{", "adapter_config.json"},
  };
  for (const auto& [config, says] : configs) {
    folder.write("adapter_config.json", config);
    EXPECT_THAT(adapter.refusal(), HasSubstr(says));
  }
  folder.write("adapter_config.json",
               R"({"peft_type":"LORA","use_dora":true,"alpha_pattern":{"^conv_in":2,"a.b":1}})");
  EXPECT_EQ(adapter.refusal(), "accepted");
  folder.change_weights([](Tensors& t) { t.erase("base_model.model.conv_in.lora_magnitude_vector"); });
  EXPECT_THAT(adapter.refusal(), HasSubstr("use_dora"));
  folder.write("second.safetensors", "x");
  EXPECT_THAT(adapter.refusal(), HasSubstr("name the file"));
  fs::remove(fs::path(folder.path()) / "second.safetensors");
  fs::rename(fs::path(folder.path()) / "model.safetensors", fs::path(folder.path()) / "x.bin");
  EXPECT_THAT(adapter.refusal(), HasSubstr("pickles"));
  EXPECT_THROW(Adapters({{"/nowhere/a.safetensors"}}, {}), core::DataError);
}

TEST(AdapterNames, AllNamings) {
  struct NameCase {
    const char *key, *part, *layer;
    FactorRole role;
  };
  const NameCase rows[] = {
      {"unet.conv_in.lora_A.weight", "unet", "conv_in", FactorRole::kDown},
      {"base_model.model.mid_block.resnets.0.conv1.lora_B.default.weight", "", "mid_block_resnets_0_conv1",
       FactorRole::kUp},
      {"text_encoder.base_model.model.text_model.a.q_proj.lora_A.weight", "text_encoder",
       "text_model_a_q_proj", FactorRole::kDown},
      {"unet.a.to_k.lora_magnitude_vector", "unet", "a_to_k", FactorRole::kMagnitude},
      {"base_model.model.a.lora_magnitude_vector.weight", "", "a", FactorRole::kMagnitude},
      {"base_model.model.a.lora_magnitude_vector.default", "", "a", FactorRole::kMagnitude},
      {"base_model.model.a.lora_magnitude_vector.my.weight", "", "a", FactorRole::kMagnitude},
      {"down_blocks.0.attn1.processor.to_out_lora.up.weight", "", "down_blocks_0_attn1_to_out",
       FactorRole::kUp},
      {"unet.a.attn1.processor.to_q.lora.down.weight", "unet", "a_attn1_to_q", FactorRole::kDown},
      {"text_encoder_2.text_model.x.fc1.lora_linear_layer.down.weight", "text_encoder_2", "text_model_x_fc1",
       FactorRole::kDown},
      {"lora_te1_text_model_x.alpha", "text_encoder", "text_model_x", FactorRole::kAlpha},
      {"lora_te_text_model_x.dora_scale", "text_encoder", "text_model_x", FactorRole::kDoraScale},
      {"lora_te2_text_projection.lora_up.weight", "text_encoder_2", "text_projection", FactorRole::kUp},
      {"lora_unet_input_blocks_1_0_in_layers_2.lora_down.weight", "unet", "input_blocks_1_0_in_layers_2",
       FactorRole::kDown},
      {"diffusion_model.input_blocks.1.1.proj_in.lora_A.weight", "unet", "input_blocks_1_1_proj_in",
       FactorRole::kDown},
      {"unet.a.to_q_lora.alpha", "unet", "a_to_q", FactorRole::kAlpha},
  };
  for (const auto& row : rows) {
    const auto found = parse_adapter_key(row.key);
    ASSERT_TRUE(found) << row.key;
    EXPECT_EQ(found->part, row.part) << row.key;
    EXPECT_EQ(found->layer, row.layer) << row.key;
    EXPECT_EQ(found->role, row.role) << row.key;
  }
  for (const char* key : {"", "lora_A.weight.x", "unet.conv_in.weight", "a.lora_B.bias", "a.lora_mid.weight",
                          "a.lora_embedding_A", "a.diff", "a.lokr_w1"})
    EXPECT_FALSE(parse_adapter_key(key)) << key;
}

/// By hand, from the two lists of Stable Diffusion XL's and 1.5's layers.
TEST(AdapterNames, OriginalNumberingOfTheBlocks) {
  std::vector<std::string> names = {"conv_in",
                                    "conv_out",
                                    "time_embedding.linear_2",
                                    "add_embedding.linear_1",
                                    "mid_block.resnets.1.conv2",
                                    "mid_block.attentions.0.proj_out"};
  for (int block = 0; block < 3; ++block) {
    for (int i = 0; i < 2; ++i) names.push_back(fmt::format("down_blocks.{}.resnets.{}.conv1", block, i));
    for (int i = 0; i < 3; ++i)
      names.push_back(fmt::format("up_blocks.{}.resnets.{}.conv_shortcut", block, i));
    if (block > 0)
      names.push_back(fmt::format("down_blocks.{}.attentions.1.transformer_blocks.0.ff.net.0.proj", block));
    if (block < 2) {
      names.push_back(fmt::format("down_blocks.{}.downsamplers.0.conv", block));
      names.push_back(fmt::format("up_blocks.{}.upsamplers.0.conv", block));
    }
    if (block == 0) names.push_back("up_blocks.0.attentions.2.proj_in");
  }
  const auto originals = original_unet_names(names);
  const std::pair<const char*, const char*> rows[] = {
      {"conv_in", "input_blocks_0_0"},
      {"conv_out", "out_2"},
      {"time_embedding.linear_2", "time_embed_2"},
      {"add_embedding.linear_1", "label_emb_0_0"},
      {"mid_block.resnets.1.conv2", "middle_block_2_out_layers_3"},
      {"mid_block.attentions.0.proj_out", "middle_block_1_proj_out"},
      {"down_blocks.0.resnets.1.conv1", "input_blocks_2_0_in_layers_2"},
      {"down_blocks.0.downsamplers.0.conv", "input_blocks_3_0_op"},
      {"down_blocks.1.attentions.1.transformer_blocks.0.ff.net.0.proj",
       "input_blocks_5_1_transformer_blocks_0_ff_net_0_proj"},
      {"down_blocks.2.resnets.1.conv1", "input_blocks_8_0_in_layers_2"},
      {"up_blocks.0.attentions.2.proj_in", "output_blocks_2_1_proj_in"},
      {"up_blocks.0.upsamplers.0.conv", "output_blocks_2_2_conv"},
      {"up_blocks.1.upsamplers.0.conv", "output_blocks_5_1_conv"},  // no attention in this one
      {"up_blocks.2.resnets.2.conv_shortcut", "output_blocks_8_0_skip_connection"},
  };
  for (const auto& [name, original] : rows) {
    ASSERT_TRUE(originals.contains(name)) << name;
    EXPECT_EQ(originals.at(name), original) << name;
  }
}

}  // namespace
}  // namespace muster::models
