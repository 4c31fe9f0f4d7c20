// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "muster/device/device.h"

namespace muster::models {

struct RgbPicture {
  std::uint32_t width = 0, height = 0;
  std::span<const std::uint8_t> rgb;  ///< [height, width, 3]
};

/// How well a picture fits a text by a CLIP model (Radford et al., 2021; Hessel et al., 2021): 100 times the
/// cosine of their embeddings, without the model's own logit scale. In fp32. const: any number of threads.
class ClipScore {
 public:
  virtual ~ClipScore() = default;
  /// `ids` with begin and end token as the folder's tokenizer gives them, at most max_tokens() of them and
  /// each below vocab_size().
  virtual double score(const RgbPicture& picture, std::span<const std::uint32_t> ids) const = 0;
  virtual std::uint32_t max_tokens() const = 0;
  virtual std::uint32_t vocab_size() const = 0;
};

/// A folder of transformers' CLIPModel: config.json, model.safetensors, preprocessor_config.json (and a
/// tokenizer). DataError when it is something else, damaged or incomplete.
std::unique_ptr<ClipScore> load_clip_score(const std::string& folder, const device::Device& device);
/// The files that decide a score, relative names, sorted; the tokenizer's too.
std::vector<std::string> clip_score_files(const std::string& folder);

}  // namespace muster::models
