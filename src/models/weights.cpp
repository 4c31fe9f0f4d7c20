// SPDX-License-Identifier: Apache-2.0
#include "models/weights.h"

#include <ATen/Functions.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "muster/core/error.h"

namespace muster::models {

std::optional<c10::ScalarType> floating_type(formats::DType dtype) {
  switch (dtype) {
    case formats::DType::kF64:
      return c10::ScalarType::Double;
    case formats::DType::kF32:
      return c10::ScalarType::Float;
    case formats::DType::kF16:
      return c10::ScalarType::Half;
    case formats::DType::kBF16:
      return c10::ScalarType::BFloat16;
    default:
      return std::nullopt;
  }
}

at::Tensor tensor_of(const formats::TensorView& view, c10::ScalarType type,
                     const std::vector<std::int64_t>& sizes) {
  // from_blob wants a mutable pointer; the mapping is read-only and nobody writes before prepare() copies.
  auto* data = const_cast<std::byte*>(view.bytes.data());
  if (reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(type) == 0)
    return at::from_blob(data, sizes, type);
  at::Tensor copy = at::empty(sizes, type);  // a header of odd length leaves its tensors unaligned
  std::copy_n(data, view.bytes.size(), static_cast<std::byte*>(copy.data_ptr()));
  return copy;
}

namespace {

constexpr std::size_t kListed = 30;  // problems in one message

bool is_allowed(const std::string& name, const std::vector<std::string>& allowed) {
  return std::any_of(allowed.begin(), allowed.end(), [&](const std::string& entry) {
    return name == entry || (entry.ends_with('.') && name.starts_with(entry));
  });
}

// Checkpoints converted from TensorFlow long ago call the norm's weights gamma and beta.
constexpr Spelling kOldNorms[] = {{"LayerNorm.weight", "LayerNorm.gamma"},
                                  {"LayerNorm.bias", "LayerNorm.beta"}};

std::optional<std::string> spelled(const std::string& name, const Spelling& spelling) {
  const auto at = name.rfind(spelling.now);
  if (at == std::string::npos) return std::nullopt;
  return std::string(name).replace(at, spelling.now.size(), spelling.then);
}

struct Found {
  std::string name;
  formats::TensorView view;
};

std::optional<Found> find(const formats::Safetensors& checkpoint, const std::string& name,
                          const WeightRules& rules) {
  if (auto view = checkpoint.find(name)) return Found{name, std::move(*view)};
  for (const auto& spellings : {std::span<const Spelling>(kOldNorms), std::span(rules.spellings)})
    for (const Spelling& spelling : spellings)
      if (const auto other = spelled(name, spelling))
        if (auto view = checkpoint.find(*other)) return Found{*other, std::move(*view)};
  return std::nullopt;
}

std::string shape_text(const auto& shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

bool same_shape(const std::vector<std::uint64_t>& stored, const std::vector<std::int64_t>& sizes,
                ConvShaped conv_shaped) {
  auto end = stored.end();
  if (conv_shaped == ConvShaped::kAllowed && sizes.size() == 2 && stored.size() == 4 && stored[2] == 1 &&
      stored[3] == 1)
    end -= 2;
  return std::equal(stored.begin(), end, sizes.begin(), sizes.end(),
                    [](std::uint64_t a, std::int64_t b) { return a == static_cast<std::uint64_t>(b); });
}

bool any_starts_with(const std::vector<std::string>& names, std::string_view prefix) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return name.starts_with(prefix); });
}

std::string prefix_of(const std::vector<std::string>& names, const WeightRules& rules) {
  return !rules.prefix.empty() && any_starts_with(names, rules.prefix) ? rules.prefix : "";
}

/// One pass over a module and its checkpoint.
class Loader {
 public:
  Loader(const formats::Safetensors& checkpoint, const WeightRules& rules)
      : checkpoint_(checkpoint), rules_(rules) {
    const auto names = checkpoint.names();
    unused_.insert(names.begin(), names.end());
    prefix_ = prefix_of(names, rules);
  }

  void load(const WeightPart& part) {
    const std::string prefix = part.naming == Naming::kBehindPrefix ? prefix_ : "";
    part.module->visit_parameters(
        [&](const std::string& name, nn::Parameter& parameter) { load(prefix + name, parameter); });
  }

  void finish(const std::string& config_path) {
    for (const std::string& name : unused_) {
      const std::string bare = name.starts_with(prefix_) ? name.substr(prefix_.size()) : name;
      if (is_allowed(name, rules_.unused) || is_allowed(bare, rules_.unused)) continue;
      const auto view = checkpoint_.find(name);
      problems_.push_back(
          fmt::format("'{}' {} is not part of the model ({})", name, shape_text(view->shape), view->file));
    }
    if (problems_.empty()) return;
    const std::size_t more = problems_.size() > kListed ? problems_.size() - kListed : 0;
    problems_.resize(problems_.size() - more);
    throw core::DataError(fmt::format(
        "weights: {}{}\nis {} the right config for {}?", fmt::join(problems_, "\n  "),
        more ? fmt::format("\n  and {} more", more) : "", config_path, fmt::join(checkpoint_.files(), ", ")));
  }

 private:
  void load(const std::string& name, nn::Parameter& parameter) {
    const auto found = find(checkpoint_, name, rules_);
    if (!found) {
      problems_.push_back(fmt::format("'{}' is missing, expected {}{}", name, shape_text(parameter.sizes()),
                                      because(parameter)));
      return;
    }
    unused_.erase(found->name);
    const auto& shape = found->view.shape;
    const auto sizes = parameter.sizes();
    if (!same_shape(shape, sizes, rules_.conv_shaped)) {
      const std::string reason = parameter.reason();
      problems_.push_back(fmt::format("'{}' is {}, config {}{}expects {} ({})", found->name,
                                      shape_text(shape), reason, reason.empty() ? "" : " ", shape_text(sizes),
                                      found->view.file));
      return;
    }
    const auto type = floating_type(found->view.dtype);
    if (!type) {
      problems_.push_back(
          fmt::format("'{}' is {}, which is no weight type this program reads (F32, F16, BF16, F64) ({})",
                      found->name, formats::dtype_name(found->view.dtype), found->view.file));
      return;
    }
    parameter.value = tensor_of(found->view, *type, sizes);
  }

  static std::string because(const nn::Parameter& parameter) {
    const std::string reason = parameter.reason();
    return reason.empty() ? "" : fmt::format(" (config {})", reason);
  }

  const formats::Safetensors& checkpoint_;
  const WeightRules& rules_;
  std::string prefix_;
  std::set<std::string> unused_;
  std::vector<std::string> problems_;
};

}  // namespace

void claim(WeightRules& rules, std::string_view layer) {
  std::erase_if(rules.unused, [&](const std::string& entry) {
    return entry.ends_with('.') && fmt::format("{}.", layer).starts_with(entry);
  });
}

bool has_layer(const formats::Safetensors& checkpoint, const WeightRules& rules, std::string_view layer,
               Naming naming) {
  const auto names = checkpoint.names();
  const std::string prefix = naming == Naming::kBehindPrefix ? prefix_of(names, rules) : "";
  return any_starts_with(names, fmt::format("{}{}.", prefix, layer));
}

void load_weights(nn::Module& module, const formats::Safetensors& checkpoint, const WeightRules& rules,
                  const std::string& config_path) {
  const WeightPart part{&module};
  load_weights({&part, 1}, checkpoint, rules, config_path);
}

void load_weights(std::span<const WeightPart> parts, const formats::Safetensors& checkpoint,
                  const WeightRules& rules, const std::string& config_path) {
  Loader loader(checkpoint, rules);
  for (const WeightPart& part : parts) loader.load(part);
  loader.finish(config_path);
}

formats::Safetensors open_checkpoint(const std::string& folder) {
  namespace fs = std::filesystem;
  const fs::path path(folder);
  if (!fs::exists(path / "model.safetensors") && !fs::exists(path / "model.safetensors.index.json")) {
    const bool pickled =
        fs::exists(path / "pytorch_model.bin") || fs::exists(path / "pytorch_model.bin.index.json");
    throw core::DataError(
        fmt::format("{}: there is no model.safetensors{}", folder,
                    pickled ? "; the folder's pytorch_model.bin is a Python pickle, which is not read: "
                              "convert it with transformers' "
                              "save_pretrained(folder)"
                            : " (nor model.safetensors.index.json); is the model's folder complete?"));
  }
  return formats::Safetensors::open(folder, "model");
}

}  // namespace muster::models
