// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "models/fixture.h"
#include "models/sentence_folder.h"
#include "muster/core/error.h"

namespace muster::models {
namespace {

std::string fixture(const std::string& name) {
  return (fixture_root() / name).string();
}

// A name that the model lets a checkpoint hold beyond its own: heads, buffers.
bool is_unused(const std::string& name, const WeightRules& rules) {
  const std::string bare = name.starts_with(rules.prefix) ? name.substr(rules.prefix.size()) : name;
  return std::any_of(rules.unused.begin(), rules.unused.end(), [&](const std::string& entry) {
    const bool is_group = entry.ends_with('.');
    return is_group ? name.starts_with(entry) || bare.starts_with(entry) : name == entry || bare == entry;
  });
}

// Counted in the files themselves, without the tensors that the model does not use.
std::uint64_t values_in_files(const std::string& folder) {
  const SentenceFolder sentence = read_sentence_folder(folder, {});
  const WeightRules& rules = sentence.transformer->facts().weights;
  std::uint64_t total = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || entry.path().extension() != ".safetensors") continue;
    if (entry.path().filename() == "expected.safetensors") continue;
    const auto file = formats::Safetensors::open(entry.path().string());
    for (const std::string& name : file.names()) {
      if (is_unused(name, rules)) continue;
      const auto view = file.find(name);
      std::uint64_t count = 1;
      for (const auto size : view->shape) count *= size;
      total += count;
    }
  }
  return total;
}

TEST(DescribeEncoder, WeightCountIsThatOfTheFiles) {
  for (const std::string& name : fixture_names())
    EXPECT_EQ(describe_text_encoder(fixture(name)).weight_count, values_in_files(fixture(name))) << name;
}

TEST(DescribeEncoder, NeedsNoWeights) {
  const ScratchFolder folder("bert_dense");
  for (const char* file : {"model.safetensors", "2_Dense/model.safetensors"})
    std::filesystem::remove(folder.path() + "/" + file);
  EXPECT_EQ(describe_text_encoder(folder.path()).dimensions, 18u);
}

struct Row {
  const char* name;
  const char* architecture;
  std::uint32_t layers, hidden, heads, intermediate, max_positions, max_length, dimensions;
  bool normalize;
};

TEST(DescribeEncoder, Fields) {
  const Row rows[] = {
      {"bert_mean", "bert", 2, 40, 5, 72, 96, 64, 40, true},
      {"bert_legacy", "bert", 2, 32, 4, 72, 96, 24, 32, true},
      {"bert_all_poolings", "bert", 1, 24, 2, 72, 96, 64, 144, false},
      {"bert_dense", "bert", 2, 40, 2, 72, 96, 64, 18, false},
      {"mpnet_mean", "mpnet", 2, 36, 4, 72, 204, 200, 36, true},
      {"distilbert_bare", "distilbert", 2, 40, 5, 72, 64, 64, 40, false},
      {"roberta_last", "roberta", 1, 66, 3, 72, 64, 60, 66, true},
  };
  for (const Row& row : rows) {
    const auto d = describe_text_encoder(fixture(row.name));
    EXPECT_EQ(d.architecture, row.architecture) << row.name;
    EXPECT_EQ(d.layers, row.layers) << row.name;
    EXPECT_EQ(d.hidden, row.hidden) << row.name;
    EXPECT_EQ(d.heads, row.heads) << row.name;
    EXPECT_EQ(d.intermediate, row.intermediate) << row.name;
    EXPECT_EQ(d.max_positions, row.max_positions) << row.name;
    EXPECT_EQ(d.max_length, row.max_length) << row.name;
    EXPECT_EQ(d.dimensions, row.dimensions) << row.name;
    EXPECT_EQ(d.normalize, row.normalize) << row.name;
  }
}

TEST(DescribeEncoder, CostOfATokenAndOfAPair) {
  const auto d = describe_text_encoder(fixture("bert_mean"));
  EXPECT_EQ(d.linear_flops_per_token, 2.0 * 2 * (4 * 40 * 40 + 2 * 40 * 72));
  EXPECT_EQ(d.attention_flops_per_token2, 2.0 * 2 * 2 * 40);
}

TEST(DescribeEncoder, Overrides) {
  const auto d = describe_text_encoder(fixture("bert_mean"),
                                       {.pooling = Pooling::kCls, .normalize = false, .max_length = 96});
  EXPECT_EQ(d.pooling, std::vector<Pooling>{Pooling::kCls});
  EXPECT_FALSE(d.normalize);
  EXPECT_EQ(d.max_length, 96u);
  EXPECT_TRUE(describe_text_encoder(fixture("bert_dense"), {.normalize = true}).normalize);
  // The dense layer behind was made for two poolings.
  EXPECT_THROW(describe_text_encoder(fixture("bert_dense"), {.pooling = Pooling::kCls}), core::Error);
}

TEST(DescribeEncoder, PromptsAndLengths) {
  const auto d = describe_text_encoder(fixture("bert_prompt"));
  EXPECT_EQ(d.prompts.at("search"), "search text: ");
  EXPECT_EQ(d.default_prompt_name, "");
  EXPECT_FALSE(d.include_prompt);

  const ScratchFolder folder("bert_mean");
  folder.write("tokenizer_config.json", R"({"model_max_length": 1000000000000000019884624838656})");
  EXPECT_EQ(describe_text_encoder(folder.path()).max_length, 96u);
  folder.write("sentence_bert_config.json", R"({"max_seq_length": 500, "do_lower_case": true})");
  EXPECT_EQ(describe_text_encoder(folder.path()).max_length, 96u);
  EXPECT_TRUE(describe_text_encoder(folder.path()).lower_case);
  folder.write("sentence_bert_config.json", R"({"max_seq_length": 0})");
  EXPECT_THROW(describe_text_encoder(folder.path()), core::DataError);
  folder.write("config_sentence_transformers.json", R"({"default_prompt_name": "query", "prompts": {}})");
  EXPECT_THROW(describe_text_encoder(folder.path()), core::DataError);
}

TEST(DescribeEncoder, Files) {
  using Files = std::vector<std::string>;
  EXPECT_EQ(text_encoder_files(fixture("distilbert_bare")),
            (Files{"config.json", "model.safetensors", "tokenizer.json"}));
  EXPECT_EQ(text_encoder_files(fixture("bert_bf16_shards")),
            (Files{"1_Pooling/config.json", "2_Normalize/config.json", "config.json",
                   "config_sentence_transformers.json", "model-00001-of-00003.safetensors",
                   "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors",
                   "model.safetensors.index.json", "modules.json", "sentence_bert_config.json",
                   "tokenizer.json", "tokenizer_config.json"}));
  const auto dense = text_encoder_files(fixture("bert_dense"));
  EXPECT_NE(std::find(dense.begin(), dense.end(), "2_Dense/model.safetensors"), dense.end());
}

// The transformer in a sub-folder, as old sentence-transformers saved it.
TEST(DescribeEncoder, TransformerInASubFolder) {
  const ScratchFolder folder("bert_mean");
  fs::create_directory(folder.path() + "/0_Transformer");
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json", "sentence_bert_config.json",
                           "tokenizer_config.json"})
    fs::rename(folder.path() + "/" + file, folder.path() + "/0_Transformer/" + file);
  folder.replace("modules.json", "\"path\": \"\"", "\"path\": \"0_Transformer\"");
  EXPECT_EQ(describe_text_encoder(folder.path()).transformer_folder, "0_Transformer");
  const Expected expected = read_expected(fixture_root() / "bert_mean" / "expected.safetensors");
  const auto encoder = load_text_encoder({folder.path(), {}, ComputeType::kFp32, {}});
  EXPECT_LE(largest_difference(embed(*encoder, expected.packed()), expected.embeddings), 2e-5);
  const auto files = text_encoder_files(folder.path());
  EXPECT_NE(std::find(files.begin(), files.end(), "0_Transformer/tokenizer.json"), files.end());
}

}  // namespace
}  // namespace muster::models
