// SPDX-License-Identifier: Apache-2.0
// A classifier's first weights, and the folder that it becomes.
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/sentence_folder.h"
#include "models/token_batch.h"
#include "models/training_fixture.h"
#include "models/weights.h"
#include "muster/core/error.h"
#include "muster/formats/json.h"

namespace muster::models {
namespace {

using Weights = std::map<std::string, at::Tensor>;

Weights weights_by_name(const ClassifierConfig& config) {
  const TrainableClassifier classifier(config);
  const auto weights = classifier.load_weights();
  Weights out;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    EXPECT_EQ(weights[i].scalar_type(), c10::ScalarType::Float);
    out[classifier.parameters()[i].name] = weights[i];
  }
  return out;
}

ClassifierConfig encoder_config(const std::string& fixture, HeadKind head = HeadKind::kLinear) {
  ClassifierConfig config{.folder = (fixture_root() / fixture).string(), .head = head};
  config.class_names = class_names(300);
  config.class_tokens.assign(300, {2, 5, 3});
  return config;
}

TEST(FirstWeights, ComeFromSeedAndName) {
  ClassifierConfig config = encoder_config("bert_mean", HeadKind::kBilinear);
  const Weights first = weights_by_name(config), same = weights_by_name(config);
  config.seed = 1;
  const Weights other = weights_by_name(config);
  for (const auto& [name, value] : first) {
    EXPECT_TRUE(value.equal(same.at(name))) << name;
    EXPECT_EQ(value.equal(other.at(name)), name != "bilinear.weight") << name;
  }
}

double mean_of(const at::Tensor& x) {
  return x.to(at::kDouble).mean().item().toDouble();
}

TEST(FirstWeights, AreSpreadAsInTransformers) {
  const ScratchFolder folder("xlm_roberta_sqrt");
  folder.replace("config.json", "\"initializer_range\": 0.02", "\"initializer_range\": 0.05");
  ClassifierConfig config = encoder_config("xlm_roberta_sqrt");
  config.folder = folder.path();
  const Weights linear = weights_by_name(config);
  const at::Tensor& normal = linear.at("classifier.out_proj.weight");  // [300, 24]
  EXPECT_NEAR(mean_of(normal), 0, 0.002);
  EXPECT_NEAR(std::sqrt(mean_of(at::square(normal))), 0.05, 0.0015);
  EXPECT_GT(largest(normal), 0.15);
  EXPECT_EQ(largest(linear.at("classifier.out_proj.bias")), 0);
  EXPECT_EQ(largest(linear.at("classifier.dense.bias")), 0);

  const Weights bilinear = weights_by_name(encoder_config("bert_mean", HeadKind::kBilinear));
  const at::Tensor& uniform = bilinear.at("bilinear.weight");  // [40, 40]
  const double limit = 1 / std::sqrt(40.0);
  EXPECT_LE(largest(uniform), limit);
  EXPECT_GT(largest(uniform), 0.99 * limit);
  EXPECT_NEAR(std::sqrt(mean_of(at::square(uniform))), limit / std::sqrt(3.0), 0.05 * limit);
}

// The mean of the inference path's hidden states over the tokens between the first and the last.
TEST(FirstWeights, OfClassesAreTheirNamesInTheEncoder) {
  ClassifierConfig config = encoder_config("mpnet_mean", HeadKind::kBilinear);
  config.class_names = class_names(3);
  config.class_tokens = {{2, 7, 9, 11, 3}, {2, 20, 3}, {2, 3}};
  const at::Tensor found = weights_by_name(config).at("class_embeddings.weight");

  const SentenceFolder folder = read_sentence_folder(config.folder, {});
  Transformer& transformer = *folder.transformer;
  const auto checkpoint = open_checkpoint(config.folder);
  load_weights(transformer, checkpoint, transformer.facts().weights, config.folder);
  transformer.prepare({});
  for (std::size_t i = 0; i < config.class_tokens.size(); ++i) {
    const auto& ids = config.class_tokens[i];
    const auto length = static_cast<std::uint32_t>(ids.size());
    const at::Tensor states =
        transformer.forward(make_token_batch({ids, {&length, 1}}, transformer.facts().positions, {}));
    const at::Tensor words = length > 2 ? states.narrow(0, 1, length - 2) : states.narrow(0, 0, length);
    EXPECT_LE(difference(found[static_cast<std::int64_t>(i)], words.mean(0)), 1e-5) << "class " << i;
  }
}

TEST(FirstWeights, TakeThePoolerWhereThereIsOne) {
  const auto pooler = [](const std::string& folder) {
    ClassifierConfig config = encoder_config("bert_mean");
    config.folder = folder;
    return weights_by_name(config).at("bert.pooler.dense.weight");
  };
  const ScratchFolder folder("bert_mean");
  const auto file = formats::Safetensors::open(folder.path());
  const auto view = file.find("pooler.dense.weight");
  const at::Tensor found = pooler(folder.path()).contiguous();
  ASSERT_EQ(found.nbytes(), view->bytes.size());
  EXPECT_EQ(std::memcmp(found.const_data_ptr(), view->bytes.data(), view->bytes.size()), 0);
  folder.change_weights([](ScratchFolder::Tensors& tensors) {
    tensors.erase("pooler.dense.weight");
    tensors.erase("pooler.dense.bias");
  });
  EXPECT_NEAR(std::sqrt(mean_of(at::square(pooler(folder.path())))), 0.02, 0.002);
}

struct Refusal {
  const char* what;
  const char* fixture;
  std::function<void(ClassifierConfig&)> change;
  std::function<void(ScratchFolder::Tensors&)> damage;
  std::vector<std::string> parts;
};

TEST(TrainableClassifierRefusals, SayWhatToDo) {
  const Refusal refusals[] = {
      {"pooling", "bert_mean", [](auto& c) { c.pooling = Pooling::kMax; }, {}, {"pooling is 'max'", "mean"}},
      {"no classes", "bert_mean", [](auto& c) { c.class_names.clear(); }, {}, {"there are 0 classes"}},
      {"twice",
       "bert_mean",
       [](auto& c) { c.class_names[1] = c.class_names[0]; },
       {},
       {"class 'class 0' occurs twice"}},
      {"frozen",
       "bert_mean",
       [](auto& c) { c.frozen_layers = 3; },
       {},
       {"frozen_layers is 3, but", "has 2 layers"}},
      {"no pooler",
       "distilbert_bare",
       [](auto& c) { c.head = HeadKind::kBilinear; },
       {},
       {"has no pooler", "use mean pooling"}},
      {"no folder", "bert_mean", [](auto& c) { c.folder += "/x"; }, {}, {"/x: no such model folder"}},
      {"other classes",
       "classifiers/bert",
       [](auto&) {},
       {},
       {"is trained for other classes: it has 7 classes, this run 300"}},
      {"other names",
       "classifiers/bert",
       [](auto& c) {
         c.class_names = class_names(7);
         std::swap(c.class_names[2], c.class_names[4]);
       },
       {},
       {"class 2 is 'class 2' there and 'class 4' here"}},
      {"weights",
       "classifiers/bert",
       [](auto& c) { c.class_names = class_names(7); },
       [](ScratchFolder::Tensors& tensors) {
         tensors.erase("classifier.bias");
         tensors.erase("bert.embeddings.LayerNorm.weight");
         tensors["classifier.extra"] = {"F32", {1}, std::string(4, '\0')};
       },
       {"'classifier.bias' is missing, expected [7]", "'bert.embeddings.LayerNorm.weight' is missing",
        "'classifier.extra' [1] is not part of the model"}},
  };
  for (const Refusal& row : refusals) {
    const ScratchFolder folder(row.fixture);
    if (row.damage) folder.change_weights(row.damage);
    ClassifierConfig config = encoder_config(row.fixture);
    config.folder = folder.path();
    row.change(config);
    try {
      TrainableClassifier(config).load_weights();
      ADD_FAILURE() << row.what << " was accepted";
    } catch (const core::Error& error) {
      for (const std::string& part : row.parts)
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
            << row.what << ": " << error.what();
    }
  }
}

// A head for another task, or one of another kind, is no head to go on with.
TEST(FirstWeights, StartAnewBesideAnotherHead) {
  const ScratchFolder folder("classifiers/bert");
  folder.replace("config.json", "BertForSequenceClassification", "BertForTokenClassification");
  ClassifierConfig config = encoder_config("classifiers/bert");
  config.folder = folder.path();
  EXPECT_EQ(weights_by_name(config).at("classifier.weight").size(0), 300);
  config = encoder_config("classifiers/bert", HeadKind::kBilinear);
  EXPECT_TRUE(weights_by_name(config).contains("bilinear.weight"));
  config = encoder_config("classifiers/bilinear_first");
  EXPECT_EQ(weights_by_name(config).at("classifier.weight").size(0), 300);
}

class SavedFolder : public testing::TestWithParam<TrainingRow> {};

std::vector<std::string> file_names(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

const std::map<std::string, std::string> kClassNames{
    {"bert", "BertForSequenceClassification"},
    {"bert_bilinear", "BertModel"},
    {"bert_gelu_new_mean", "BertModel"},
    {"camembert", "CamembertForSequenceClassification"},
    {"distilbert", "DistilBertForSequenceClassification"},
    {"distilbert_mean", "DistilBertModel"},
    {"mpnet", "MPNetForSequenceClassification"},
    {"mpnet_bilinear_mean", "MPNetModel"},
    {"roberta", "RobertaForSequenceClassification"},
    {"roberta_relu_mean", "RobertaModel"},
    {"xlm_roberta", "XLMRobertaForSequenceClassification"},
};

void expect_config(const std::string& saved, const std::string& original, const ClassifierConfig& config,
                   const std::string& architecture) {
  const auto now = formats::read_json(saved + "/config.json");
  const auto then = formats::read_json(original + "/config.json");
  for (const auto& [key, value] : then.members()) {
    ASSERT_TRUE(now.has(key)) << key;
    EXPECT_EQ(now.at(key).kind(), value.kind()) << key;
    const bool is_ours = key == "dtype" || key == "torch_dtype" || key == "problem_type";
    if (value.is_number()) {
      EXPECT_EQ(now.at(key).as<double>(), value.as<double>()) << key;
    } else if (value.is_string() && !is_ours) {
      EXPECT_EQ(now.at(key).view(), value.view()) << key;
    }
  }
  EXPECT_EQ(now.at("architectures").as_list<std::string>(), std::vector{architecture});
  EXPECT_EQ(now.get<std::string>("problem_type"), "multi_label_classification");
  EXPECT_EQ(now.get<std::string>("torch_dtype"), "float32");
  EXPECT_EQ(now.get_or<std::string>("dtype", "float32"), "float32");
  EXPECT_EQ(now.at("id2label").size(), config.class_names.size());
  EXPECT_EQ(now.at("label2id").size(), config.class_names.size());
  for (std::size_t id = 0; id < config.class_names.size(); ++id) {
    EXPECT_EQ(now.at("id2label").get<std::string>(std::to_string(id)), config.class_names[id]);
    EXPECT_EQ(now.at("label2id").get<std::size_t>(config.class_names[id]), id);
  }
}

std::string json_lists(const at::Tensor& rows) {
  std::string out;
  for (std::int64_t i = 0; i < rows.size(0); ++i) {
    const at::Tensor row = rows[i].contiguous();
    const auto* values = row.const_data_ptr<float>();
    out += fmt::format("{}[{}]", i ? ", " : "", fmt::join(values, values + row.numel(), ", "));
  }
  return fmt::format("[{}]", out);
}

/// For check_saved_classifier.py, where MUSTER_KEEP_CLASSIFIERS names a folder.
void keep_for_transformers(const std::string& saved, const TrainingFixture& fixture, const char* name) {
  const auto root = core::env("MUSTER_KEEP_CLASSIFIERS");
  if (!root) return;
  const fs::path kept = fs::path(*root) / name;
  fs::create_directories(kept);
  fs::copy(saved, kept, fs::copy_options::overwrite_existing | fs::copy_options::recursive);
  std::string texts;
  std::size_t at = 0;
  for (const std::uint32_t length : fixture.lengths) {
    const auto first = fixture.ids.begin() + static_cast<std::ptrdiff_t>(at);
    texts += fmt::format("{}[{}]", at ? ", " : "", fmt::join(first, first + length, ", "));
    at += length;
  }
  std::ofstream(kept / "expected.json")
      << fmt::format("{{\"ids\": [{}], \"logits\": {}}}\n", texts, json_lists(fixture.tensor("logits")));
}

// What inference makes of the folder is what training's reference made of the weights; and training goes on
// with the very weights.
TEST_P(SavedFolder, HoldsTheClassifier) {
  const TrainingFixture fixture(GetParam());
  ClassifierConfig config = fixture.config();
  const TrainableClassifier classifier(config);
  const auto weights = fixture.weights(classifier);
  const ScratchFolder scratch("");
  const std::string saved = scratch.path() + "/final";
  classifier.save_folder(saved, weights);

  const bool is_own = config.head == HeadKind::kBilinear || config.pooling;
  std::vector<std::string> files{"config.json", "model.safetensors", "tokenizer.json"};
  for (const char* name : {"tokenizer_config.json", "sentence_bert_config.json"})
    if (fs::exists(fs::path(config.folder) / name)) files.emplace_back(name);
  if (is_own) files.insert(files.end(), {"classifier.json", "classifier.safetensors"});
  std::sort(files.begin(), files.end());
  EXPECT_EQ(file_names(saved), files);
  EXPECT_EQ(core::read_file(saved + "/tokenizer.json", 1 << 24),
            core::read_file(config.folder + "/tokenizer.json", 1 << 24));
  expect_config(saved, config.folder, config, kClassNames.at(GetParam().name));

  std::vector<std::string> stored, expected_names;
  for (const char* stem : {"model", "classifier"}) {
    if (!fs::exists(fmt::format("{}/{}.safetensors", saved, stem))) continue;
    const auto file = formats::Safetensors::open(saved, stem);
    for (const std::string& name : file.names()) {
      stored.push_back(name);
      EXPECT_EQ(file.find(name)->dtype, formats::DType::kF32) << name;
    }
  }
  for (const ClassifierParameter& parameter : classifier.parameters())
    expected_names.push_back(parameter.name);
  EXPECT_THAT(stored, testing::UnorderedElementsAreArray(expected_names));

  const auto inference = load_text_classifier({saved, {}, ComputeType::kFp32, {}});
  const auto description = describe_text_classifier(saved);
  EXPECT_EQ(description.class_names, config.class_names);
  const at::Tensor expected = fixture.tensor("logits");
  EXPECT_LE(
      largest_difference(embed(*inference, fixture.texts().texts),
                         {expected.const_data_ptr<float>(), static_cast<std::size_t>(expected.numel())}),
      2e-5);

  keep_for_transformers(saved, fixture, GetParam().name);

  config.folder = saved;
  config.seed = 99;
  const TrainableClassifier again(config);
  const auto found = again.load_weights();
  ASSERT_EQ(found.size(), weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    EXPECT_EQ(again.parameters()[i].name, classifier.parameters()[i].name);
    EXPECT_TRUE(found[i].equal(weights[i])) << again.parameters()[i].name;
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, SavedFolder, testing::ValuesIn(kTrainingRows),
                         [](const auto& info) { return std::string(info.param.name); });

// Keys that no one here has heard of, numbers that need all their digits, names that need quoting.
TEST(SavedConfig, KeepsWhatItDoesNotUnderstand) {
  const ScratchFolder folder("classifiers/bert"), out("");
  folder.replace("config.json", "{",
                 R"({"x": {"nested": [1, 2.0, 1e-12, 0.1, true, null, "\u00e9\n", -7, 18446744073709551615],
                     "empty": {}, "none": []}, "num_labels": 7,)");
  folder.replace("config.json", "\"dtype\": \"float32\"", "\"dtype\": \"bfloat16\"");
  ClassifierConfig config = encoder_config("classifiers/bert");
  config.folder = folder.path();
  config.class_names = class_names(7);
  const TrainableClassifier classifier(config);
  classifier.save_folder(out.path(), classifier.load_weights());
  const auto x = formats::read_json(out.path() + "/config.json").at("x");
  const auto nested = x.at("nested");
  EXPECT_EQ(nested.size(), 9u);
  EXPECT_TRUE(nested.element(0).is_integer());
  EXPECT_FALSE(nested.element(1).is_integer());
  EXPECT_EQ(nested.element(2).as<double>(), 1e-12);
  EXPECT_EQ(nested.element(3).as<double>(), 0.1);
  EXPECT_TRUE(nested.element(5).is_null());
  EXPECT_EQ(nested.element(6).as<std::string>(), "\u00e9\n");
  EXPECT_EQ(nested.element(7).as<std::int64_t>(), -7);
  EXPECT_EQ(nested.element(8).as<std::uint64_t>(), 18446744073709551615u);
  EXPECT_EQ(x.at("empty").size(), 0u);
  EXPECT_TRUE(x.at("none").is_array());
  const auto saved = formats::read_json(out.path() + "/config.json");
  EXPECT_EQ(saved.get<std::string>("dtype"), "float32");
  EXPECT_EQ(saved.get<std::int64_t>("num_labels"), 7);
}

}  // namespace
}  // namespace muster::models
