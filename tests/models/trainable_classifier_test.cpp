// SPDX-License-Identifier: Apache-2.0
// Training's forward and backward against transformers in fp32 (generate_gradients.py made the expectations),
// and against itself in its other modes.
#include "muster/models/trainable_classifier.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <set>

#include "models/registry.h"
#include "models/training_fixture.h"
#include "muster/core/error.h"

namespace muster::models {
namespace {

constexpr double kTolerance = 1e-5;
constexpr nn::trainable::Randomness kRandomness{.seed = 5, .step = 7};

class TrainingParity : public testing::TestWithParam<TrainingRow> {
 protected:
  TrainingFixture fixture_{GetParam()};

  ClassifierConfig plain_config() const {
    ClassifierConfig config = fixture_.config();
    config.dropouts = Dropouts::kOff;
    return config;
  }
};

/// Softmax takes no notice of the keys' bias: its gradient is nothing but rounding.
bool is_keys_bias(const std::string& name) {
  return name.ends_with("key.bias") || name.ends_with(".k.bias") || name.ends_with("k_lin.bias");
}

/// The largest difference of any gradient, relative to its own size, and whose it is.
std::pair<double, std::string> worst_gradient(const Gradients& found, const Gradients& expected) {
  double scale = 0;
  for (const auto& [name, gradient] : expected) scale = std::max(scale, largest(gradient));
  std::pair<double, std::string> worst;
  for (const auto& [name, gradient] : expected) {
    const auto at = found.find(name);
    const double size = is_keys_bias(name) ? scale : largest(gradient);
    const double off = at == found.end() ? INFINITY : difference(at->second, gradient) / size;
    if (!(off <= worst.first)) worst = {off, name};
  }
  return worst;
}

TEST_P(TrainingParity, Fp32LogitsLossAndGradients) {
  const Step step = take_step(fixture_, plain_config());
  EXPECT_LE(difference(step.logits, fixture_.tensor("logits")), kTolerance);
  EXPECT_LE(difference(step.loss.reshape({1}), fixture_.tensor("loss")), kTolerance);
  const Gradients expected = fixture_.gradients();
  EXPECT_EQ(step.gradients.size(), expected.size());
  const auto [worst, name] = worst_gradient(step.gradients, expected);
  EXPECT_LE(worst, kTolerance) << name;
  RecordProperty("worst_gradient", fmt::format("{} {}", worst, name));
}

TEST_P(TrainingParity, ParametersAreNamedAsInTransformersAndInForwardOrder) {
  const TrainableClassifier classifier(plain_config());
  const auto& parameters = classifier.parameters();
  const Gradients expected = fixture_.gradients();
  std::set<std::string> names;
  for (const ClassifierParameter& parameter : parameters) {
    names.insert(parameter.name);
    ASSERT_TRUE(expected.contains(parameter.name)) << parameter.name;
    EXPECT_EQ(at::IntArrayRef(parameter.shape), expected.at(parameter.name).sizes()) << parameter.name;
    EXPECT_TRUE(parameter.trainable);
    EXPECT_EQ(parameter.decays, parameter.shape.size() == 2 && !parameter.name.ends_with("bias.weight"))
        << parameter.name;
  }
  EXPECT_EQ(names.size(), expected.size());
  EXPECT_TRUE(parameters.front().name.ends_with("embeddings.word_embeddings.weight"));
  std::uint64_t count = 0;
  for (const ClassifierParameter& parameter : parameters)
    count += static_cast<std::uint64_t>(c10::multiply_integers(parameter.shape));
  EXPECT_EQ(classifier.description().weight_count, count);
}

TEST_P(TrainingParity, TrainingWithoutDropoutIsEvaluation) {
  const TrainableClassifier off(plain_config()), as_configured(fixture_.config());
  const auto weights = fixture_.weights(off);
  const auto logits = [&](const TrainableClassifier& classifier, Mode mode) {
    const at::Tensor found = classifier.make_replica(weights)->logits(fixture_.texts(kRandomness), mode);
    EXPECT_EQ(found.requires_grad(), mode == Mode::kTraining);
    return found.detach();
  };
  const at::Tensor evaluation = logits(as_configured, Mode::kEvaluation);
  EXPECT_TRUE(evaluation.equal(logits(off, Mode::kTraining)));
  EXPECT_TRUE(evaluation.equal(logits(off, Mode::kEvaluation)));
  EXPECT_GT(difference(evaluation, logits(as_configured, Mode::kTraining)), 1e-3);
}

TEST_P(TrainingParity, RecomputedLayersGiveTheSameGradients) {
  ClassifierConfig config = fixture_.config();  // with dropout, which must fall alike both times
  const Step kept = take_step(fixture_, config, c10::ScalarType::Float, kRandomness);
  config.recompute = Recompute::kEveryLayer;
  const Step again = take_step(fixture_, config, c10::ScalarType::Float, kRandomness);
  EXPECT_TRUE(kept.logits.equal(again.logits));
  ASSERT_EQ(kept.gradients.size(), again.gradients.size());
  const auto [worst, name] = worst_gradient(again.gradients, kept.gradients);
  EXPECT_LE(worst, 1e-6) << name;
}

// Each text keeps its dropout, too: that is keyed by its item.
TEST_P(TrainingParity, ATextDoesNotDependOnItsCompanions) {
  const TrainableClassifier classifier(fixture_.config());
  const auto weights = fixture_.weights(classifier);
  const auto replica = classifier.make_replica(weights);
  for (const Mode mode : {Mode::kEvaluation, Mode::kTraining}) {
    const at::Tensor together = replica->logits(fixture_.texts(kRandomness), mode).detach();
    std::size_t at = 0;
    for (std::size_t text = 0; text < fixture_.lengths.size(); at += fixture_.lengths[text++]) {
      const auto ids = std::span(fixture_.ids).subspan(at, fixture_.lengths[text]);
      const TrainingTexts one{{ids, {&fixture_.lengths[text], 1}}, {&fixture_.items[text], 1}, kRandomness};
      const at::Tensor alone = replica->logits(one, mode).detach();
      EXPECT_LE(difference(alone[0], together[static_cast<std::int64_t>(text)]), kTolerance)
          << "text " << text << " in mode " << static_cast<int>(mode);
    }
  }
}

TEST_P(TrainingParity, Bf16PointsTheSameWay) {
  const Step step = take_step(fixture_, plain_config(), c10::ScalarType::BFloat16);
  EXPECT_EQ(step.logits.scalar_type(), c10::ScalarType::Float);
  EXPECT_EQ(step.loss.scalar_type(), c10::ScalarType::Float);
  const auto product = [](const at::Tensor& a, const at::Tensor& b) {
    return at::dot(a.to(at::kDouble).flatten(), b.to(at::kDouble).flatten()).item().toDouble();
  };
  double ab = 0, aa = 0, bb = 0;
  for (const auto& [name, expected] : fixture_.gradients()) {
    const at::Tensor& found = step.gradients.at(name);
    EXPECT_EQ(found.scalar_type(), c10::ScalarType::BFloat16) << name;
    ab += product(found, expected);
    aa += product(found, found);
    bb += product(expected, expected);
  }
  EXPECT_GE(ab / std::sqrt(aa * bb), 0.995);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, TrainingParity, testing::ValuesIn(kTrainingRows),
                         [](const auto& info) { return std::string(info.param.name); });

struct FrozenRow {
  const char* what;
  std::uint32_t layers;
  bool embeddings;
  std::vector<std::string> frozen;  // parts of names
};

// What is frozen gets nothing; what is not gets what it would anyway.
TEST(FrozenLayers, GetNoGradientAndChangeNoOther) {
  const FrozenRow rows[] = {
      {"embeddings", 0, true, {"embeddings."}},
      {"one layer", 1, false, {"embeddings.", "relative_attention_bias", "layer.0."}},
      {"all layers", 2, true, {"embeddings.", "relative_attention_bias", "layer.0.", "layer.1."}},
  };
  const TrainingFixture fixture(training_row("mpnet"));
  const Step all = take_step(fixture, fixture.config(), c10::ScalarType::Float, kRandomness);
  for (const FrozenRow& row : rows) {
    for (const Recompute recompute : {Recompute::kNo, Recompute::kEveryLayer}) {
      ClassifierConfig config = fixture.config();
      config.frozen_layers = row.layers;
      config.freeze_embeddings = row.embeddings;
      config.recompute = recompute;
      const Step step = take_step(fixture, config, c10::ScalarType::Float, kRandomness);
      EXPECT_TRUE(step.logits.equal(all.logits)) << row.what;
      const TrainableClassifier classifier(config);
      for (const ClassifierParameter& parameter : classifier.parameters()) {
        const bool frozen = std::any_of(row.frozen.begin(), row.frozen.end(), [&](const std::string& part) {
          return parameter.name.find(part) != std::string::npos;
        });
        EXPECT_EQ(parameter.trainable, !frozen) << row.what << " " << parameter.name;
        EXPECT_EQ(step.gradients.contains(parameter.name), !frozen) << row.what << " " << parameter.name;
        if (frozen) continue;
        const at::Tensor& expected = all.gradients.at(parameter.name);
        EXPECT_LE(difference(step.gradients.at(parameter.name), expected),
                  1e-6 * std::max(1e-3, largest(expected)))
            << row.what << " " << parameter.name;
      }
    }
  }
}

struct RatesRow {
  const char* model_type;
  // embeddings, attention's probabilities, attention's output, block's output, head's input, head's output
  std::vector<double> rates;
};

TEST(TrainingDropout, RatesArePlacedAsInTransformers) {
  const RatesRow rows[] = {
      {"bert", {0.11, 0.12, 0.11, 0.11, 0, 0.13}},
      {"roberta", {0.11, 0.12, 0.11, 0.11, 0.13, 0.13}},
      {"xlm-roberta", {0.11, 0.12, 0.11, 0.11, 0.13, 0.13}},
      {"camembert", {0.11, 0.12, 0.11, 0.11, 0.13, 0.13}},
      {"mpnet", {0.11, 0.12, 0.11, 0.11, 0.11, 0.11}},
      {"distilbert", {0.14, 0.15, 0, 0.14, 0, 0.16}},
  };
  for (const RatesRow& row : rows) {
    const auto config = formats::parse_json(
        fmt::format(
            R"({{"model_type": "{}", "vocab_size": 9, "max_position_embeddings": 9, "type_vocab_size": 1,
               "hidden_size": 4, "dim": 4, "num_attention_heads": 1, "n_heads": 1, "num_hidden_layers": 1,
               "n_layers": 1, "intermediate_size": 4, "hidden_dim": 4, "hidden_dropout_prob": 0.11,
               "attention_probs_dropout_prob": 0.12, "classifier_dropout": 0.13, "dropout": 0.14,
               "attention_dropout": 0.15, "seq_classif_dropout": 0.16}})",
            row.model_type),
        "config.json");
    const DropoutRates found = make_transformer(config)->facts().dropouts;
    EXPECT_EQ((std::vector{found.embeddings, found.blocks.attention, found.blocks.attention_output,
                           found.blocks.output, found.head_input, found.head_output}),
              row.rates)
        << row.model_type;
  }
}

struct DropoutRow {
  const char* fixture;
  const char* key;
  bool matters;
};

// Where a probability of config.json acts: one key at a time, the others zero.
TEST(TrainingDropout, ActsWhereTransformersHasIt) {
  const DropoutRow rows[] = {
      {"bert", "hidden_dropout_prob", true},        {"bert", "attention_probs_dropout_prob", true},
      {"bert", "classifier_dropout", true},         {"bert_bilinear", "classifier_dropout", false},
      {"roberta", "classifier_dropout", true},      {"mpnet", "classifier_dropout", false},
      {"mpnet", "hidden_dropout_prob", true},       {"distilbert", "dropout", true},
      {"distilbert", "attention_dropout", true},    {"distilbert", "seq_classif_dropout", true},
      {"distilbert", "hidden_dropout_prob", false}, {"distilbert_mean", "seq_classif_dropout", true},
  };
  for (const DropoutRow& row : rows) {
    const TrainingFixture fixture(training_row(row.fixture));
    const ScratchFolder folder(training_row(row.fixture).folder);
    std::string config_text = core::read_file(folder.path() + "/config.json", 1 << 20);
    for (const char* key : {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout",
                            "dropout", "attention_dropout", "seq_classif_dropout"}) {
      const std::string quoted = fmt::format("\"{}\":", key);
      if (const auto at = config_text.find(quoted); at != std::string::npos)
        config_text.replace(at, quoted.size(), fmt::format("\"was_{}\":", key));
      config_text.insert(config_text.find('{') + 1,
                         fmt::format("\"{}\": {},", key, std::string_view(key) == row.key ? 0.5 : 0.0));
    }
    folder.write("config.json", config_text);
    ClassifierConfig config = fixture.config();
    config.folder = folder.path();
    const TrainableClassifier classifier(config);
    const auto replica = classifier.make_replica(fixture.weights(classifier));
    const at::Tensor dropped = replica->logits(fixture.texts(kRandomness), Mode::kTraining).detach();
    const at::Tensor plain = replica->logits(fixture.texts(kRandomness), Mode::kEvaluation);
    EXPECT_EQ(!dropped.equal(plain), row.matters) << row.fixture << " " << row.key;
    const at::Tensor next_step = replica->logits(fixture.texts({.seed = 5, .step = 8}), Mode::kTraining);
    EXPECT_EQ(!dropped.equal(next_step.detach()), row.matters) << row.fixture << " " << row.key;
  }
}

std::uint64_t bytes_in_use() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

struct MemoryRow {
  std::uint32_t tokens, texts;
  ComputeType type;
  std::uint32_t frozen_layers;
};

// The structure of all-MiniLM-L6-v2, with a vocabulary of 100.
constexpr const char* kMiniLm = R"({"model_type": "bert", "vocab_size": 100, "hidden_size": 384,
    "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536, "type_vocab_size": 2,
    "max_position_embeddings": 512})";

TEST(TrainingMemory, IsPredictedFromTheStructure) {
  const MemoryRow rows[] = {
      {64, 16, ComputeType::kFp32, 0}, {64, 16, ComputeType::kBf16, 0}, {300, 4, ComputeType::kFp32, 0},
      {300, 4, ComputeType::kBf16, 0}, {64, 16, ComputeType::kFp32, 4}, {500, 1, ComputeType::kBf16, 0},
  };
  const ScratchFolder folder("");
  folder.write("config.json", kMiniLm);
  for (const MemoryRow& row : rows) {
    const TrainableClassifier classifier(
        {.folder = folder.path(), .class_names = class_names(10), .frozen_layers = row.frozen_layers});
    const auto type = row.type == ComputeType::kFp32 ? c10::ScalarType::Float : c10::ScalarType::BFloat16;
    std::vector<at::Tensor> weights;
    for (const ClassifierParameter& parameter : classifier.parameters())
      weights.push_back(at::full(parameter.shape, 0.01, type));
    const auto replica = classifier.make_replica(weights);
    const std::vector<std::uint32_t> ids(row.tokens * row.texts, 7), lengths(row.texts, row.tokens);
    const std::vector<std::uint64_t> items(row.texts);
    const TrainingTexts texts{{ids, lengths}, items, kRandomness};
    replica->logits(texts, Mode::kTraining);  // what is only made once
    const std::uint64_t before = bytes_in_use();
    const at::Tensor logits = replica->logits(texts, Mode::kTraining);
    const auto measured = static_cast<double>(bytes_in_use() - before);
    const double predicted = row.texts * classifier.activation_bytes(row.tokens, row.type);
    EXPECT_NEAR(predicted / measured, 1, 0.25)
        << row.texts << " texts of " << row.tokens << " tokens in " << compute_type_name(row.type) << ", "
        << row.frozen_layers << " frozen: measured " << measured / 1e6 << " MB";
    fmt::print("{} x {} tokens, {}, {} frozen: {:.1f} MB measured, {:.1f} MB predicted\n", row.texts,
               row.tokens, compute_type_name(row.type), row.frozen_layers, measured / 1e6, predicted / 1e6);
  }
}

// A block's input each, and the insides of one.
TEST(TrainingMemory, OfRecomputedLayersIsSmall) {
  const ScratchFolder folder("");
  folder.write("config.json", kMiniLm);
  ClassifierConfig config{.folder = folder.path(), .class_names = class_names(10)};
  const double kept = TrainableClassifier(config).activation_bytes(128, ComputeType::kFp32);
  config.recompute = Recompute::kEveryLayer;
  const TrainableClassifier classifier(config);
  const double recomputed = classifier.activation_bytes(128, ComputeType::kFp32);
  EXPECT_LT(recomputed, kept / 3);
  EXPECT_GT(recomputed, kept / 6);
  config.frozen_layers = 6;
  EXPECT_LT(TrainableClassifier(config).activation_bytes(128, ComputeType::kFp32), kept / 50);
}

}  // namespace
}  // namespace muster::models
