// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/nn/adapter.h"
#include "muster/nn/module.h"

namespace muster::models {

enum class FactorRole : std::uint8_t {
  kDown,
  kUp,
  kMagnitude,  ///< peft's: of outputs
  kDoraScale,  ///< kohya's: its shape tells what it belongs to
  kAlpha,
};

/// What a tensor of an adapter file is, by its name.
struct AdapterKey {
  std::string part;   ///< "unet", "text_encoder", "text_encoder_2"; empty: the name does not say
  std::string layer;  ///< with underscores for dots
  FactorRole role = FactorRole::kDown;
};

/// Nothing for names in no known manner.
std::optional<AdapterKey> parse_adapter_key(std::string_view key);

/// A layer that adapters can change.
struct AdaptableLayer {
  std::string name;  ///< in its module
  nn::Adaptable* layer = nullptr;
  nn::Parameter* weight = nullptr;
};

/// The layers of a module by all names that adapter files have for them: diffusers' own, older ones (to_q for
/// q_proj, to_out), names without "text_model", and those of Stable Diffusion's original UNet
/// (input_blocks...), always with underscores for dots.
class LayerIndex {
 public:
  explicit LayerIndex(nn::Module& module);
  const AdaptableLayer* find(const std::string& flat_name) const;

 private:
  void add_alias(const std::string& flat_name, std::size_t layer);

  std::vector<AdaptableLayer> layers_;
  std::map<std::string, std::size_t> by_name_;
};

/// Names in Stable Diffusion's original UNet for the layers of diffusers', by those names; underscores for
/// dots. Layers that only one of the two has are left out.
std::map<std::string, std::string> original_unet_names(const std::vector<std::string>& names);

}  // namespace muster::models
