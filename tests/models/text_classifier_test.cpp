// SPDX-License-Identifier: Apache-2.0
// Classifiers against transformers in fp32 (generate_classifiers.py made the expectations), and what is
// refused.
#include "muster/models/text_classifier.h"

#include <gtest/gtest.h>

#include "models/fixture.h"
#include "muster/core/error.h"
#include "muster/nn/linear.h"

namespace muster::models {
namespace {

constexpr double kTolerance = 1e-5;

struct Row {
  const char* name;
  std::size_t classes;
  const char* head;
  const char* problem_type;
  const char* last_class;
};

constexpr Row kRows[] = {
    {"bert", 7, "linear", "multi_label_classification", "class 6"},
    {"bert_two_classes", 2, "linear", "", "LABEL_1"},
    {"mpnet", 5, "linear", "", "class 4"},
    {"roberta", 33, "linear", "single_label_classification", "class 32"},
    {"distilbert", 4, "linear", "", "class 3"},
    {"bilinear_first", 11, "bilinear", "", "class 10"},
    {"bilinear_mean", 6, "bilinear", "", "LABEL_5"},
    {"linear_mean", 9, "linear", "", "class 8"},
};

std::string folder_of(const std::string& name) {
  return (fixture_root() / "classifiers" / name).string();
}

Expected expected_of(const std::string& name) {
  return read_expected(folder_of(name) + "/expected.safetensors");
}

TEST(TextClassifier, DescribesItsClasses) {
  for (const Row& row : kRows) {
    const auto found = describe_text_classifier(folder_of(row.name));
    EXPECT_EQ(found.class_names.size(), row.classes) << row.name;
    EXPECT_EQ(found.encoder.dimensions, row.classes) << row.name;
    EXPECT_EQ(found.head, row.head) << row.name;
    EXPECT_EQ(found.problem_type, row.problem_type) << row.name;
    EXPECT_EQ(found.class_names.back(), row.last_class) << row.name;
    EXPECT_FALSE(found.encoder.normalize) << row.name;
  }
}

TEST(TextClassifier, Fp32LogitsEqualTransformers) {
  double worst = 0;
  for (const Row& row : kRows) {
    const Expected expected = expected_of(row.name);
    ASSERT_EQ(expected.dimensions, row.classes) << row.name;
    const auto classifier = load_text_classifier({folder_of(row.name), {}, ComputeType::kFp32, {}});
    const double difference = largest_difference(embed(*classifier, expected.packed()), expected.embeddings);
    EXPECT_LE(difference, kTolerance) << row.name;
    worst = std::max(worst, difference);
  }
  fmt::print("largest difference {:.3g}\n", worst);
}

// Random weights spread further than trained ones, so the bounds are looser than on real models.
TEST(TextClassifier, SixteenAndEightBitsPointTheSameWay) {
  std::vector<std::pair<ComputeType, double>> types{{ComputeType::kBf16, 0.995}};
  if (nn::has_int8_linear()) types.emplace_back(ComputeType::kInt8, 0.98);
  for (const auto& [type, least] : types) {
    for (const Row& row : kRows) {
      const Expected expected = expected_of(row.name);
      const auto classifier = load_text_classifier({folder_of(row.name), {}, type, {}});
      EXPECT_GE(
          smallest_cosine(embed(*classifier, expected.packed()), expected.embeddings, expected.dimensions),
          least)
          << row.name << " " << compute_type_name(type);
    }
  }
}

// A document's logits have the same bytes alone and beside others.
TEST(TextClassifier, LogitsDoNotDependOnTheBatch) {
  for (const Row& row : kRows) {
    const Expected texts = expected_of(row.name);
    for (const ComputeType type : {ComputeType::kFp32, ComputeType::kBf16}) {
      const auto classifier = load_text_classifier({folder_of(row.name), {}, type, {}});
      const auto together = embed(*classifier, texts.packed());
      for (std::size_t i = 0; i < texts.lengths.size(); ++i) {
        const auto alone = embed_alone(*classifier, texts.text(i));
        EXPECT_EQ(std::memcmp(alone.data(), together.data() + i * row.classes, row.classes * sizeof(float)),
                  0)
            << row.name << " text " << i;
      }
    }
  }
}

TEST(TextClassifier, FilesAreThoseThatDecideTheLogits) {
  using testing_names = std::vector<std::string>;
  EXPECT_EQ(text_classifier_files(folder_of("bert")),
            (testing_names{"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}));
  EXPECT_EQ(text_classifier_files(folder_of("bilinear_mean")),
            (testing_names{"classifier.json", "classifier.safetensors", "config.json", "model.safetensors",
                           "tokenizer.json", "tokenizer_config.json"}));
}

std::string failure(const std::string& folder, const EncoderOverrides& overrides = {}) {
  try {
    load_text_classifier({folder, {}, ComputeType::kFp32, overrides});
    return "";
  } catch (const core::Error& error) {
    return error.what();
  }
}

void expect_parts(const std::string& message, const std::vector<std::string>& parts) {
  for (const auto& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << "no '" << part << "' in\n" << message;
}

using Tensors = ScratchFolder::Tensors;

struct Damage {
  const char* fixture;
  std::function<void(const ScratchFolder&)> apply;
  std::vector<std::string> parts;  ///< of the message; none: it loads
};

ScratchFolder::Tensor zeros(std::vector<std::uint64_t> shape) {
  std::size_t count = 1;
  for (const auto size : shape) count *= size;
  return {"F32", std::move(shape), std::string(count * sizeof(float), '\0')};
}

const Damage kDamages[] = {
    {"bert", [](const ScratchFolder&) {}, {}},
    {"bert",
     [](const ScratchFolder& folder) {
       folder.change_weights([](Tensors& t) {
         t.erase("classifier.bias");
         t.erase("bert.pooler.dense.weight");
         t["classifier.weight"] = zeros({8, 32});
         t["classifier.extra"] = zeros({1});
         t["bert.pooler.extra"] = zeros({2});
         t.erase("bert.encoder.layer.0.output.dense.bias");
       });
     },
     {"'classifier.bias' is missing, expected [7] (config id2label=7)",
      "'bert.pooler.dense.weight' is missing, expected [32,32] (config hidden_size=32)",
      "'classifier.weight' is [8,32], config id2label=7, hidden_size=32 expects [7,32]",
      "'classifier.extra' [1] is not part of the model", "'bert.pooler.extra' [2] is not part of the model",
      "'bert.encoder.layer.0.output.dense.bias' is missing"}},
    {"roberta",
     [](const ScratchFolder& folder) {
       folder.change_weights([](Tensors& t) { t.erase("classifier.out_proj.weight"); });
     },
     {"'classifier.out_proj.weight' is missing, expected [33,24]"}},
    {"distilbert",
     [](const ScratchFolder& folder) {
       folder.change_weights([](Tensors& t) { t.erase("pre_classifier.bias"); });
     },
     {"'pre_classifier.bias' is missing"}},
    // Saying nothing of an architecture is no reason to refuse what has all the weights.
    {"bert",
     [](const ScratchFolder& folder) { folder.replace("config.json", "\"architectures\"", "\"_\""); },
     {}},
    {"bert",
     [](const ScratchFolder& folder) {
       folder.replace("config.json", "BertForSequenceClassification", "BertModel");
     },
     {"is an encoder without a classification head", "[BertModel]", "muster train"}},
    {"bert",
     [](const ScratchFolder& folder) { folder.replace("config.json", "\"0\": \"class 0\"", "\"9\": \"x\""); },
     {"config.json: key 'id2label.9'", "0 to 6"}},
    {"bert",
     [](const ScratchFolder& folder) { folder.replace("config.json", "\"1\": \"class 1\"", "\"0\": \"x\""); },
     {"config.json"}},
    {"bert",
     [](const ScratchFolder& folder) {
       folder.replace("config.json", "\"model_type\": \"bert\"", "\"model_type\": \"gpt9\"");
     },
     {"key 'model_type' is 'gpt9'"}},
    {"linear_mean",
     [](const ScratchFolder& folder) {
       folder.replace("classifier.json", "\"classes\": 9", "\"classes\": 8");
     },
     {"classifier.json: key 'classes' is 8", "names 9 classes"}},
    {"linear_mean",
     [](const ScratchFolder& folder) { folder.replace("classifier.json", "\"mean\"", "\"first\""); },
     {"key 'pooling' is 'first', but distilbert has no pooler", "mean pooling"}},
    {"linear_mean",
     [](const ScratchFolder& folder) { folder.replace("classifier.json", "\"mean\"", "\"max\""); },
     {"key 'pooling' is 'max'; known: first, mean"}},
    {"linear_mean",
     [](const ScratchFolder& folder) { folder.replace("classifier.json", "\"linear\"", "\"cubic\""); },
     {"key 'head' is 'cubic'; known: linear, bilinear"}},
    {"bilinear_mean",
     [](const ScratchFolder& folder) {
       folder.replace("classifier.json", "\"classes\": 6", "\"classes\": 7");
     },
     {"'class_embeddings.weight' is [6,24], config classes=7, hidden_size=24 expects [7,24]"}},
    {"bilinear_mean",
     [](const ScratchFolder& folder) { fs::remove(fs::path(folder.path()) / "classifier.safetensors"); },
     {"classifier"}},
    {"bilinear_first",
     [](const ScratchFolder& folder) {
       folder.change_weights([](Tensors& t) { t.erase("pooler.dense.bias"); });
     },
     {"'pooler.dense.bias' is missing"}},
};

TEST(TextClassifier, LoadsStrictly) {
  for (const Damage& damage : kDamages) {
    const ScratchFolder folder("classifiers/" + std::string(damage.fixture));
    damage.apply(folder);
    const std::string message = failure(folder.path());
    EXPECT_EQ(message.empty(), damage.parts.empty()) << damage.fixture << ": " << message;
    expect_parts(message, damage.parts);
  }
}

TEST(TextClassifier, RefusesWhatIsNoClassifier) {
  expect_parts(failure((fixture_root() / "bert_mean").string()),
               {"is an encoder without a classification head", "muster train"});
  expect_parts(failure("/nowhere/at/all"), {"/nowhere/at/all: no such model folder"});
  expect_parts(failure(folder_of("bert"), {.max_length = 97}), {"model.max_length is 97", "1 to 96"});
}

}  // namespace
}  // namespace muster::models
