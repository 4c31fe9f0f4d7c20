// SPDX-License-Identifier: Apache-2.0
#include "models/adapter_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "muster/core/error.h"

namespace muster::models {
namespace {

struct Ending {
  std::string_view text;
  FactorRole role;
};

// Behind a layer's name; longer ones first where one ends with another.
constexpr Ending kEndings[] = {
    {".lora_A.weight", FactorRole::kDown},
    {".lora_B.weight", FactorRole::kUp},
    {".lora_down.weight", FactorRole::kDown},
    {".lora_up.weight", FactorRole::kUp},
    {".lora.down.weight", FactorRole::kDown},
    {".lora.up.weight", FactorRole::kUp},
    {".lora_linear_layer.down.weight", FactorRole::kDown},
    {".lora_linear_layer.up.weight", FactorRole::kUp},
    {"_lora.down.weight", FactorRole::kDown},
    {"_lora.up.weight", FactorRole::kUp},
    {".lora_magnitude_vector.weight", FactorRole::kMagnitude},
    {".lora_magnitude_vector", FactorRole::kMagnitude},
    {".dora_scale", FactorRole::kDoraScale},
    {"_lora.alpha", FactorRole::kAlpha},
    {".lora.alpha", FactorRole::kAlpha},
    {".lora_linear_layer.alpha", FactorRole::kAlpha},
    {".alpha", FactorRole::kAlpha},
};

struct PartPrefix {
  std::string_view text, part;
};

constexpr PartPrefix kParts[] = {
    {"lora_unet_", "unet"},
    {"lora_te_", "text_encoder"},
    {"lora_te1_", "text_encoder"},
    {"lora_te2_", "text_encoder_2"},
    {"unet.", "unet"},
    {"text_encoder.", "text_encoder"},
    {"text_encoder_2.", "text_encoder_2"},
    {"model.diffusion_model.", "unet"},
    {"diffusion_model.", "unet"},
};

constexpr std::string_view kPeftPrefix = "base_model.model.";

void remove_prefix(std::string_view& text, std::string_view prefix) {
  if (text.starts_with(prefix)) text.remove_prefix(prefix.size());
}

// ".lora_A.default.weight" and ".lora_magnitude_vector.default[.weight]" carry the adapter's name.
std::string without_adapter_name(std::string_view key) {
  for (const std::string_view marker : {".lora_A.", ".lora_B.", ".lora_magnitude_vector."}) {
    const auto at = key.rfind(marker);
    if (at == std::string_view::npos) continue;
    const std::string_view rest = key.substr(at + marker.size());
    const auto dot = rest.find('.');
    if (rest == "weight" || (dot != std::string_view::npos && rest.substr(dot) != ".weight")) continue;
    if (dot == std::string_view::npos && !marker.starts_with(".lora_magnitude")) continue;
    return fmt::format("{}weight", key.substr(0, at + marker.size()));
  }
  return std::string(key);
}

std::string flat(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

}  // namespace

std::optional<AdapterKey> parse_adapter_key(std::string_view key) {
  const std::string plain = without_adapter_name(key);
  const auto* ending = std::find_if(std::begin(kEndings), std::end(kEndings),
                                    [&](const Ending& e) { return plain.ends_with(e.text); });
  if (ending == std::end(kEndings)) return std::nullopt;
  std::string_view stem = std::string_view(plain).substr(0, plain.size() - ending->text.size());
  AdapterKey out{.part = {}, .layer = {}, .role = ending->role};
  remove_prefix(stem, kPeftPrefix);
  for (const PartPrefix& prefix : kParts) {
    if (!stem.starts_with(prefix.text)) continue;
    stem.remove_prefix(prefix.text.size());
    out.part = prefix.part;
    break;
  }
  remove_prefix(stem, kPeftPrefix);
  std::string layer(stem);
  // Before diffusers had peft, an attention's factors were its processor's.
  constexpr std::string_view kProcessor = ".processor";
  for (auto at = layer.find(kProcessor); at != std::string::npos; at = layer.find(kProcessor))
    layer.erase(at, kProcessor.size());
  out.layer = flat(std::move(layer));
  return out;
}

LayerIndex::LayerIndex(nn::Module& module) {
  std::map<std::string, nn::Parameter*> weights;
  module.visit_parameters(
      [&](const std::string& name, nn::Parameter& parameter) { weights[name] = &parameter; });
  module.visit_modules([&](const std::string& name, nn::Module& layer) {
    if (auto* adaptable = dynamic_cast<nn::Adaptable*>(&layer))
      layers_.push_back({name, adaptable, weights.at(name + ".weight")});
  });
  std::vector<std::string> names;
  for (const AdaptableLayer& layer : layers_) names.push_back(layer.name);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const bool is_new = by_name_.emplace(flat(names[i]), i).second;
    core::internal_check(is_new, "the names of layers differ with underscores too");
  }
  const auto originals = original_unet_names(names);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const std::string name = flat(names[i]);
    if (name.ends_with("_to_out_0")) add_alias(name.substr(0, name.rfind('_')), i);
    for (const auto& [now, then] : {std::pair<std::string_view, std::string_view>{"_q_proj", "_to_q"},
                                    {"_k_proj", "_to_k"},
                                    {"_v_proj", "_to_v"},
                                    {"_out_proj", "_to_out"}}) {
      if (name.ends_with(now))
        add_alias(fmt::format("{}{}", std::string_view(name).substr(0, name.size() - now.size()), then), i);
    }
    if (const auto original = originals.find(names[i]); original != originals.end())
      add_alias(original->second, i);
  }
}

void LayerIndex::add_alias(const std::string& flat_name, std::size_t layer) {
  by_name_.emplace(flat_name, layer);  // a name of its own comes before another's alias
}

const AdaptableLayer* LayerIndex::find(const std::string& flat_name) const {
  auto found = by_name_.find(flat_name);
  if (found == by_name_.end()) found = by_name_.find(fmt::format("text_model_{}", flat_name));
  return found == by_name_.end() ? nullptr : &layers_[found->second];
}

}  // namespace muster::models
