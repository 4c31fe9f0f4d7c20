// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "muster/formats/json.h"
#include "muster/formats/safetensors.h"

namespace muster::models {

/// What peft's LoraConfig says of the scale: lora_alpha / rank, or / sqrt(rank) with use_rslora.
class LoraSettings {
 public:
  /// The keys begin with `prefix` ("unet."), as diffusers writes several configs into one object.
  LoraSettings(const formats::JsonValue& config, const std::string& prefix);
  double scale(const std::string& layer, std::int64_t rank) const;
  bool dora() const { return dora_; }

 private:
  double alpha_ = 0;
  std::vector<std::pair<std::string, double>> alphas_;  ///< of layers, by the end of their name
  bool root_scaled_ = false, dora_ = false;
};

/// An adapter's tensors and what stands beside them: peft's adapter_config.json, or the configs that
/// diffusers keeps in the file's metadata.
class AdapterSource {
 public:
  /// `path` is a .safetensors file or a folder with one.
  explicit AdapterSource(const std::string& path);
  const formats::Safetensors& tensors() const { return *tensors_; }
  const std::string& file() const { return file_; }
  /// Those for a part of the pipeline; nothing where there are none.
  const LoraSettings* settings(const std::string& part) const;

 private:
  void read_metadata();

  std::string file_;
  std::optional<formats::Safetensors> tensors_;
  std::map<std::string, LoraSettings> settings_;  ///< by part; "" for all
};

}  // namespace muster::models
