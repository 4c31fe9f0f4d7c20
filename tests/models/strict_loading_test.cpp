// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>

#include "models/fixture.h"
#include "muster/core/error.h"

namespace muster::models {
namespace {

using Tensors = ScratchFolder::Tensors;

/// The message of the error that loading ends with; empty when it loads.
template <class Error = core::DataError>
std::string failure(const std::string& folder, const EncoderOverrides& overrides = {}) {
  try {
    load_text_encoder({folder, {}, ComputeType::kFp32, overrides});
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

void expect_parts(const std::string& message, const std::vector<std::string>& parts,
                  const std::string& what) {
  for (const auto& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << what << ": no '" << part << "' in\n" << message;
}

void drop(Tensors& tensors, const std::string& name) {
  ASSERT_EQ(tensors.erase(name), 1u) << name;
}

ScratchFolder::Tensor zeros(const std::string& dtype, std::size_t item, std::vector<std::uint64_t> shape) {
  std::size_t count = 1;
  for (const auto size : shape) count *= size;
  return {dtype, std::move(shape), std::string(count * item, '\0')};
}

struct WeightRow {
  const char* what;
  std::function<void(Tensors&)> change;
  std::vector<std::string> parts;  // of the message; none: it loads
};

// bert_mean: hidden 40, 5 heads, 2 layers, intermediate 72, 96 positions.
const WeightRow kWeightRows[] = {
    {"unchanged", [](Tensors&) {}, {}},
    {"pooler is not needed",
     [](Tensors& t) {
       drop(t, "pooler.dense.bias");
       drop(t, "pooler.dense.weight");
     },
     {}},
    {"heads and buffers may be there",
     [](Tensors& t) {
       t["cls.predictions.bias"] = zeros("F32", 4, {7});
       t["embeddings.position_ids"] = zeros("I64", 8, {1, 96});
     },
     {}},
    {"missing",
     [](Tensors& t) { drop(t, "encoder.layer.1.output.dense.bias"); },
     {"'encoder.layer.1.output.dense.bias' is missing, expected [40] (config hidden_size=40)"}},
    {"unused",
     [](Tensors& t) { t["encoder.layer.2.output.dense.bias"] = zeros("F32", 4, {40}); },
     {"'encoder.layer.2.output.dense.bias' [40] is not part of the model", "model.safetensors"}},
    {"mis-shaped",
     [](Tensors& t) {
       t["encoder.layer.0.intermediate.dense.weight"] = zeros("F32", 4, {80, 40});
     },
     {"'encoder.layer.0.intermediate.dense.weight' is [80,40], config intermediate_size=72, hidden_size=40 "
      "expects [72,40]",
      "is ", "config.json the right config"}},
    {"transposed",
     [](Tensors& t) {
       t["encoder.layer.0.intermediate.dense.weight"] = zeros("F32", 4, {40, 72});
     },
     {"is [40,72]"}},
    {"another rank",
     [](Tensors& t) {
       t["embeddings.LayerNorm.weight"] = zeros("F32", 4, {1, 40});
     },
     {"is [1,40]"}},
    {"integers as weights",
     [](Tensors& t) { t["embeddings.LayerNorm.weight"] = zeros("I64", 8, {40}); },
     {"'embeddings.LayerNorm.weight' is I64, which is no weight type"}},
    {"all at once",
     [](Tensors& t) {
       drop(t, "embeddings.word_embeddings.weight");
       drop(t, "encoder.layer.1.attention.self.key.bias");
       t["encoder.layer.0.output.dense.weight"] = zeros("F32", 4, {40, 71});
       t["surprise"] = zeros("F16", 2, {2, 3});
     },
     {"'embeddings.word_embeddings.weight' is missing",
      "'encoder.layer.1.attention.self.key.bias' is missing",
      "'encoder.layer.0.output.dense.weight' is [40,71]", "'surprise' [2,3] is not part of the model"}},
    {"empty file",
     [](Tensors& t) {
       t.clear();
       t["x"] = zeros("F32", 4, {1});
     },
     {"is missing", "and 8 more"}},
};

TEST(StrictLoading, Weights) {
  for (const WeightRow& row : kWeightRows) {
    const ScratchFolder folder("bert_mean");
    folder.change_weights(row.change);
    const std::string message = failure(folder.path());
    EXPECT_EQ(message.empty(), row.parts.empty()) << row.what << ": " << message;
    expect_parts(message, row.parts, row.what);
  }
}

// Types and alignment of a file change nothing but rounding.
TEST(StrictLoading, Fp64AndUnalignedFilesGiveTheSameModel) {
  const ScratchFolder folder("bert_mean");
  folder.change_weights([](Tensors& tensors) {
    for (auto& [name, tensor] : tensors) {
      std::vector<float> values(tensor.bytes.size() / sizeof(float));
      std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
      const std::vector<double> wide(values.begin(), values.end());
      tensor = {
          "F64", tensor.shape, {reinterpret_cast<const char*>(wide.data()), wide.size() * sizeof(double)}};
    }
  });
  std::uint64_t header_bytes = 0;
  std::ifstream(folder.path() + "/model.safetensors", std::ios::binary)
      .read(reinterpret_cast<char*>(&header_bytes), sizeof header_bytes);
  ASSERT_NE(header_bytes % 8, 0u) << "the file is aligned after all";
  const Expected expected = read_expected(fixture_root() / "bert_mean" / "expected.safetensors");
  const auto original =
      load_text_encoder({(fixture_root() / "bert_mean").string(), {}, ComputeType::kFp32, {}});
  const auto wide = load_text_encoder({folder.path(), {}, ComputeType::kFp32, {}});
  EXPECT_EQ(embed(*original, expected.packed()), embed(*wide, expected.packed()));
}

struct FileRow {
  const char* what;
  const char* file;
  const char* from;
  const char* to;
  std::vector<std::string> parts;
};

const FileRow kConfigRows[] = {
    {"width",
     "config.json",
     "\"intermediate_size\": 72",
     "\"intermediate_size\": 80",
     {"'encoder.layer.1.intermediate.dense.weight' is [72,40], config intermediate_size=80, hidden_size=40 "
      "expects [80,40]",
      "'encoder.layer.1.intermediate.dense.bias' is [72], config intermediate_size=80 expects [80]"}},
    {"hidden width",
     "config.json",
     "\"hidden_size\": 40",
     "\"hidden_size\": 80",
     {"1_Pooling/config.json: key 'embedding_dimension' is 40, but the transformer's hidden states have 80"}},
    {"layers",
     "config.json",
     "\"num_hidden_layers\": 2",
     "\"num_hidden_layers\": 3",
     {"'encoder.layer.2.", "is missing"}},
    {"heads",
     "config.json",
     "\"num_attention_heads\": 5",
     "\"num_attention_heads\": 7",
     {"config.json: key 'num_attention_heads' is 7, which does not divide hidden_size=40"}},
    {"no size",
     "config.json",
     "\"hidden_size\": 40",
     "\"hidden_width\": 40",
     {"key 'hidden_size' is missing"}},
    {"zero layers",
     "config.json",
     "\"num_hidden_layers\": 2",
     "\"num_hidden_layers\": 0",
     {"'num_hidden_layers' is 0, expected 1 to"}},
    {"huge",
     "config.json",
     "\"num_hidden_layers\": 2",
     "\"num_hidden_layers\": 2000000000",
     {"'num_hidden_layers' is 2000000000"}},
    {"a string for a size",
     "config.json",
     "\"vocab_size\": ",
     "\"vocab_size\": \"many\", \"x\": ",
     {"'vocab_size' is a string"}},
    {"architecture",
     "config.json",
     "\"model_type\": \"bert\"",
     "\"model_type\": \"t5\"",
     {"key 'model_type' is 't5'; the text encoders known are bert,", "mpnet"}},
    {"activation",
     "config.json",
     "\"hidden_act\": \"gelu\"",
     "\"hidden_act\": \"snake\"",
     {"'hidden_act' is 'snake'; known: gelu"}},
    {"decoder", "config.json", "\"is_decoder\": false", "\"is_decoder\": true", {"'is_decoder' is true"}},
    {"relative positions",
     "config.json",
     "\"model_type\"",
     "\"position_embedding_type\": \"relative_key\", \"model_type\"",
     {"'position_embedding_type' is 'relative_key'; only 'absolute'"}},
    {"quantized",
     "config.json",
     "\"model_type\"",
     "\"quantization_config\": {\"bits\": 4}, \"model_type\"",
     {"quantized checkpoints"}},
    {"module",
     "modules.json",
     "modules.normalize.Normalize",
     "modules.lstm.LSTM",
     {"module 'LSTM' (2_Normalize) is not supported"}},
    {"module outside",
     "modules.json",
     "\"1_Pooling\"",
     "\"../1_Pooling\"",
     {"modules lie inside the model's folder"}},
    {"no pooling",
     "modules.json",
     "pooling.Pooling",
     "pooling.Pool",
     {"expected the modules Transformer, Pooling"}},
    {"normalizes tokens",
     "2_Normalize/config.json",
     "\"module_input_name\": \"sentence_embedding\"",
     "\"module_input_name\": \"token_embeddings\"",
     {"2_Normalize/config.json: key 'module_input_name' is 'token_embeddings'"}},
    {"task",
     "sentence_bert_config.json",
     "feature-extraction",
     "fill-mask",
     {"'transformer_task' is 'fill-mask'"}},
};

TEST(StrictLoading, Configs) {
  for (const FileRow& row : kConfigRows) {
    const ScratchFolder folder("bert_mean");
    folder.replace(row.file, row.from, row.to);
    expect_parts(failure(folder.path()), row.parts, row.what);
  }
}

TEST(StrictLoading, DenseModules) {
  const FileRow rows[] = {
      {"activation",
       "2_Dense/config.json",
       "activation.Tanh",
       "activation.Snake",
       {"Snake'; known: torch's Identity, Tanh"}},
      {"foreign activation",
       "2_Dense/config.json",
       "torch.nn.modules.activation.Tanh",
       "mine.Tanh",
       {"'mine.Tanh'; known"}},
      {"inputs",
       "2_Dense/config.json",
       "\"in_features\": 80",
       "\"in_features\": 81",
       {"key 'in_features' is 81, but the module before it gives 80"}},
      {"outputs",
       "2_Dense/config.json",
       "\"out_features\": 24",
       "\"out_features\": 25",
       {"3_LayerNorm/config.json: key 'dimension' is 24, but the module before it gives 25"}},
      {"residual",
       "6_Dense/config.json",
       "\"use_residual\": true",
       "\"use_residual\": false",
       {"'residual.weight' [18,24] is not part"}},
      {"bias",
       "4_Dense/config.json",
       "\"bias\": false",
       "\"bias\": true",
       {"'linear.bias' is missing, expected [24] (config out_features=24)"}},
  };
  for (const FileRow& row : rows) {
    const ScratchFolder folder("bert_dense");
    folder.replace(row.file, row.from, row.to);
    expect_parts(failure(folder.path()), row.parts, row.what);
  }
}

TEST(StrictLoading, FoldersThatAreNone) {
  EXPECT_NE(failure("/no/such/folder").find("/no/such/folder: no such model folder"), std::string::npos);
  const ScratchFolder empty("");
  EXPECT_NE(failure(empty.path()).find("there is no config.json"), std::string::npos);
  const ScratchFolder pickled("bert_mean");
  std::filesystem::rename(pickled.path() + "/model.safetensors", pickled.path() + "/pytorch_model.bin");
  EXPECT_NE(failure(pickled.path()).find("pytorch_model.bin is a Python pickle"), std::string::npos);
  const ScratchFolder shardless("bert_bf16_shards");
  std::filesystem::remove(shardless.path() + "/model-00002-of-00003.safetensors");
  EXPECT_NE(failure(shardless.path()).find("model-00002-of-00003.safetensors"), std::string::npos);
}

TEST(StrictLoading, OverridesThatDoNotFit) {
  const std::string folder = (fixture_root() / "bert_mean").string();
  EXPECT_NE(failure<core::ConfigError>(folder, {.max_length = 97}).find("model.max_length is 97, but"),
            std::string::npos);
  EXPECT_NE(failure<core::ConfigError>(folder, {.max_length = 0}), "");
  EXPECT_THROW(load_text_encoder({folder, {}, ComputeType::kFp16, {}}), core::ConfigError);
}

// What only the tokenizer could get wrong.
TEST(StrictLoading, TextsThatDoNotFitTheModel) {
  const auto encoder =
      load_text_encoder({(fixture_root() / "bert_mean").string(), {}, ComputeType::kFp32, {}});
  const auto vocab = encoder->description().vocab;
  EXPECT_NO_THROW(embed_alone(*encoder, {0, vocab - 1}));
  EXPECT_NO_THROW(embed_alone(*encoder, std::vector<std::uint32_t>(96, 1)));
  EXPECT_THROW(embed_alone(*encoder, {0, vocab}), core::DataError);
  EXPECT_THROW(embed_alone(*encoder, {}), core::DataError);
  EXPECT_THROW(embed_alone(*encoder, std::vector<std::uint32_t>(97, 1)), core::DataError);
  EXPECT_NO_THROW(encoder->embed({}, {}));
}

}  // namespace
}  // namespace muster::models
