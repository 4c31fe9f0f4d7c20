// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "muster/models/text_encoder.h"
#include "muster/nn/trainable.h"

namespace muster::models {

/// kLinear is transformers' own sequence-classification head of the architecture (BERT: pooler, dropout,
/// classifier; MPNet and RoBERTa: dense, tanh, out_proj; DistilBERT: pre_classifier, relu, classifier), or a
/// linear layer on the mean of the token vectors. kBilinear: (d W) E^T with trainable class embeddings E
/// (TELEClass, Zhang et al., 2025, section 3.4).
enum class HeadKind { kLinear, kBilinear };
HeadKind head_kind_from_name(const std::string& name);  ///< "linear", "bilinear"

enum class Dropouts { kAsConfigured, kOff };
enum class Recompute { kNo, kEveryLayer };

struct ClassifierConfig {
  std::string folder;  ///< an encoder, or a classifier to train on from
  HeadKind head = HeadKind::kLinear;
  std::optional<Pooling> pooling;  ///< kMean; nothing: the architecture's own (first token)
  std::vector<std::string> class_names;
  /// Token ids of each class's name, for the first class embeddings of kBilinear: the mean of their last
  /// hidden states, special tokens (first and last) excluded.
  std::vector<std::vector<std::uint32_t>> class_tokens;
  std::uint32_t frozen_layers = 0;  ///< that many blocks from below, and the embeddings, stay as they are
  bool freeze_embeddings = false;
  Dropouts dropouts = Dropouts::kAsConfigured;
  Recompute recompute = Recompute::kNo;
  std::uint64_t seed = 0;  ///< of weights that the folder lacks
};

struct ClassifierParameter {
  std::string name;  ///< as transformers names it
  std::vector<std::int64_t> shape;
  bool decays = true;     ///< false for biases and norms
  bool trainable = true;  ///< false when frozen: then no leaf of a replica
};

/// Texts and what their random decisions are keyed by.
struct TrainingTexts {
  PackedTexts texts;
  std::span<const std::uint64_t> items;
  nn::trainable::Randomness randomness;
};

enum class Mode { kTraining, kEvaluation };  ///< evaluation drops nothing

/// One worker's copy of the model: its own autograd leaves on weights that all workers share.
class ClassifierReplica {
 public:
  virtual ~ClassifierReplica() = default;
  /// fp32 [texts, classes]. In kTraining with a graph back to the leaves.
  virtual at::Tensor logits(const TrainingTexts& texts, Mode mode) const = 0;
  /// One a parameter, in the order of parameters(); frozen ones do not require gradients.
  virtual std::span<const at::Tensor> leaves() const = 0;
};

/// A text classifier to be trained: its structure, first weights, and the folder it becomes.
class TrainableClassifier {
 public:
  /// Reads config files only. DataError / ConfigError as describe_text_encoder.
  explicit TrainableClassifier(ClassifierConfig config);
  ~TrainableClassifier();

  const EncoderDescription& description() const;
  /// In forward order: the embeddings first.
  const std::vector<ClassifierParameter>& parameters() const;
  /// fp32 on the host, in the order of parameters(), from the folder's weights; new ones by the seed. Strict:
  /// one DataError lists every missing, unused and mis-shaped tensor.
  std::vector<at::Tensor> load_weights() const;
  /// `weights` in the compute type on the device, in the order of parameters(); they are shared, not copied.
  std::unique_ptr<ClassifierReplica> make_replica(std::span<const at::Tensor> weights) const;
  /// A Hugging Face folder: config.json (architectures, id2label, problem_type), model.safetensors, the
  /// tokenizer's files copied; with kBilinear or mean pooling also classifier.json and
  /// classifier.safetensors. `weights` are fp32 on the host. Files are written and synced one by one; the
  /// caller renames the folder.
  void save_folder(const std::string& folder, std::span<const at::Tensor> weights) const;
  /// Bytes that a text of `tokens` tokens keeps for backward, by the structure alone.
  double activation_bytes(std::uint32_t tokens, ComputeType type) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::models
