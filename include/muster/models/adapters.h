// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "muster/nn/module.h"

namespace muster::models {

/// An adapter file as the user names it: a .safetensors file, or a folder with one (pytorch_lora_weights or
/// adapter_model, with adapter_config.json for peft's alpha).
struct AdapterFile {
  std::string path;
  double scale = 1;
};

enum class AdapterUse {
  kMerged,  ///< into the weights when they are loaded, in fp32
  kLive,    ///< beside the weights, at every call
};

/// What adapters are applied to: a part of a pipeline.
struct AdapterTarget {
  std::string part;  ///< "unet", "text_encoder", "text_encoder_2": what files call it
  nn::Module* module = nullptr;
};

/// Adapters in the namings of peft, diffusers and kohya (lora_unet_..., lora_te1_..., .alpha, dora_scale,
/// lora_magnitude_vector), for every target. Read and matched before the weights are loaded; `apply` runs
/// after load_weights() and before prepare().
class Adapters {
 public:
  /// DataError lists every key of a file that belongs to no layer of the targets, and every shape that does
  /// not fit.
  Adapters(const std::vector<AdapterFile>& files, const std::vector<AdapterTarget>& targets);
  ~Adapters();
  /// Merged weights are kept in `dtype` until prepare(), best the one it computes in: then they take no more
  /// memory than need be and are rounded once.
  void apply(AdapterUse use, c10::ScalarType dtype = c10::ScalarType::Float);
  std::uint64_t layers() const;  ///< that are changed, over all targets
  double bytes() const;          ///< of all factors in the files' types: what kLive adds to memory

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::models
