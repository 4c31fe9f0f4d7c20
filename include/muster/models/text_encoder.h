// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "muster/device/device.h"

namespace muster::models {

enum class Pooling { kCls, kMean, kMax, kMeanSqrtLen, kWeightedMean, kLastToken };
Pooling pooling_from_name(const std::string& name);
std::string pooling_name(Pooling pooling);

enum class ComputeType { kFp32, kBf16, kFp16, kInt8 };
ComputeType compute_type_from_name(const std::string& name);  ///< not "auto"
std::string compute_type_name(ComputeType type);

/// What config files alone tell: enough for cost, memory and `muster plan`; no weight is read.
struct EncoderDescription {
  std::string architecture;  ///< model_type of config.json
  std::uint32_t layers = 0, hidden = 0, heads = 0, intermediate = 0;
  std::uint32_t vocab = 0;
  std::uint32_t max_positions = 0;  ///< tokens that the position table takes
  std::uint32_t max_length = 0;     ///< the folder's max_seq_length, at most max_positions
  std::uint32_t dimensions = 0;     ///< of an embedding, after dense modules
  std::vector<Pooling> pooling;     ///< several are concatenated, as sentence-transformers does
  bool include_prompt = true;       ///< false: tell embed() the prompt's tokens, which are then not pooled
  bool normalize = false;
  std::uint64_t weight_count = 0;         ///< all parameters
  double linear_flops_per_token = 0;      ///< of the products with weights
  double attention_flops_per_token2 = 0;  ///< times tokens^2
  std::map<std::string, std::string> prompts;
  std::string default_prompt_name;
  bool lower_case = false;  ///< the folder wants texts in lower case before its tokenizer
  std::string
      transformer_folder;  ///< where config, weights and tokenizer lie, relative; "" in nearly every model
};

struct EncoderOverrides {
  std::optional<Pooling> pooling;
  std::optional<bool> normalize;
  std::optional<std::uint32_t> max_length;
};

/// Reads config.json, modules.json, the pooling, dense and normalize modules, sentence_bert_config.json and
/// config_sentence_transformers.json. A folder with a bare transformer gets mean pooling (as
/// sentence-transformers does). DataError / ConfigError name file and key.
EncoderDescription describe_text_encoder(const std::string& folder, const EncoderOverrides& overrides = {});
/// Every file that decides the result, relative names, sorted: config, weights, modules, tokenizer.
std::vector<std::string> text_encoder_files(const std::string& folder);

struct EncoderLoadConfig {
  std::string folder;
  device::Device device;
  ComputeType compute_type = ComputeType::kFp32;
  EncoderOverrides overrides;
};

/// Texts as token ids, one after another without padding.
struct PackedTexts {
  std::span<const std::uint32_t> ids;      ///< all texts' ids
  std::span<const std::uint32_t> lengths;  ///< tokens of each text, 1 to max_positions
  std::uint32_t prompt_tokens =
      0;  ///< at the start of each text, left out by pooling when include_prompt is false
};

/// A prepared, const text encoder: shared by the worker threads of a rank. Results of a text do not depend on
/// the other texts of the call: linear layers run on canonical tiles, attention on exact lengths.
class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  virtual const EncoderDescription& description() const = 0;
  /// `out` is [texts, dimensions] row-major. The caller's thread computes on one thread. Equal neighbouring
  /// lengths are attended together. ResourceError when memory runs out.
  virtual void embed(const PackedTexts& texts, std::span<float> out) const = 0;
  /// Drops cached memory after a ResourceError.
  virtual void release_memory() const = 0;
};

/// ConfigError when this machine cannot compute in the type, or only by emulating it.
void check_hardware(const EncoderLoadConfig& config);
/// Strict loading: lists every missing, unused and mis-shaped tensor in one DataError.
std::unique_ptr<TextEncoder> load_text_encoder(const EncoderLoadConfig& config);
/// Names in the registry, for messages and `info`.
std::vector<std::string> registered_text_encoders();
/// Sets the calling thread up for compute: inference mode is per call, one intra-op thread per worker.
void prepare_compute_thread();
std::string torch_version();

}  // namespace muster::models
