// SPDX-License-Identifier: Apache-2.0
#include "muster/models/adapters.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>
#include <map>
#include <set>

#include "models/adapter_file.h"
#include "models/adapter_names.h"
#include "models/weights.h"
#include "muster/core/error.h"
#include "muster/core/problem_list.h"
#include "muster/core/strings.h"

namespace muster::models {
namespace {

/// The tensors that a file has for one layer, and their names in it.
struct Factors {
  struct Entry {
    std::string key;
    at::Tensor tensor;
  };
  std::map<FactorRole, Entry> entries;

  bool has(FactorRole role) const { return entries.contains(role); }
  const at::Tensor& tensor(FactorRole role) const { return entries.at(role).tensor; }
  std::string any_key() const { return entries.begin()->second.key; }
};

/// A tensor of an adapter file, its name understood.
struct NamedTensor {
  std::string key;
  AdapterKey meaning;
};

struct Target {
  std::string part;
  LayerIndex layers;
};

std::string shape_text(const at::Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes(), ","));
}

// Which of the weight's sides a dora_scale [out, 1 ..] or [1, in, 1 ..] belongs to; nothing for other shapes.
std::optional<nn::MagnitudeOf> magnitude_of(const at::Tensor& scale,
                                            const std::vector<std::int64_t>& weight) {
  if (scale.dim() < 1) return std::nullopt;
  if (scale.numel() == weight[0] && scale.size(0) == weight[0]) return nn::MagnitudeOf::kOutputs;
  if (scale.dim() > 1 && scale.numel() == weight[1] && scale.size(1) == weight[1])
    return nn::MagnitudeOf::kInputs;
  return std::nullopt;
}

/// Reads one file: from names to what changes which layer.
class Reader {
 public:
  Reader(const AdapterSource& source, double scale, core::ProblemList& problems)
      : source_(source), user_scale_(scale), problems_(problems) {}

  /// Changes of this file, each for a layer.
  struct Change {
    const AdaptableLayer* layer;
    nn::LowRank factors;
  };
  std::vector<Change> read(const std::vector<Target>& targets);
  double bytes() const { return bytes_; }

 private:
  using ByLayer = std::map<const AdaptableLayer*, Factors>;

  std::vector<NamedTensor> understand();
  std::string part_of_unnamed(const std::vector<NamedTensor>& tensors, const std::vector<Target>& targets);
  void take(const NamedTensor& tensor, const AdaptableLayer& layer, Factors& factors);
  std::optional<Change> change(const AdaptableLayer& layer, const Factors& factors, const std::string& part);
  bool set_magnitude(const AdaptableLayer& layer, const Factors& factors, nn::LowRank& out);
  std::optional<double> scale(const AdaptableLayer& layer, const Factors& factors, const std::string& part,
                              std::int64_t rank);
  void problem(std::string_view key, std::string_view text) {
    problems_.add(fmt::format("{}: '{}' {}", source_.file(), core::printable(key, 200), text));
  }

  const AdapterSource& source_;
  double user_scale_;
  core::ProblemList& problems_;
  double bytes_ = 0;
};

std::vector<NamedTensor> Reader::understand() {
  std::vector<NamedTensor> out;
  for (const std::string& key : source_.tensors().names()) {
    if (auto meaning = parse_adapter_key(key)) {
      out.push_back({key, *std::move(meaning)});
    } else {
      problem(key,
              "is no factor of a LoRA or DoRA (lora_A/lora_B, lora_down/lora_up, lora.down/lora.up, "
              "magnitudes, alphas)");
    }
  }
  return out;
}

// Names without a part belong to the one target that has all their layers; the folder's name decides between
// two text encoders.
std::string Reader::part_of_unnamed(const std::vector<NamedTensor>& tensors,
                                    const std::vector<Target>& targets) {
  std::vector<std::string> able;
  std::string best = targets.empty() ? "" : targets.front().part;
  std::ptrdiff_t most = 0;
  for (const Target& target : targets) {
    const auto has = [&](const NamedTensor& tensor) {
      return tensor.meaning.part.empty() && target.layers.find(tensor.meaning.layer) != nullptr;
    };
    const auto found = std::count_if(tensors.begin(), tensors.end(), has);
    if (found > most) able.clear();
    if (found >= most && found > 0) able.push_back(target.part);
    most = std::max(most, found);
  }
  if (able.empty()) return best;
  const std::string folder = std::filesystem::path(source_.file()).parent_path().filename().string();
  if (std::find(able.begin(), able.end(), folder) != able.end()) return folder;
  if (able.size() > 1)
    problems_.add(fmt::format(
        "{}: its names do not say whether they are for {}; put it into a folder with one of these names",
        source_.file(), fmt::join(able, " or ")));
  return able.front();
}

void Reader::take(const NamedTensor& tensor, const AdaptableLayer& layer, Factors& factors) {
  const auto view = *source_.tensors().find(tensor.key);
  const auto type = floating_type(view.dtype);
  if (!type) {
    problem(tensor.key, fmt::format("is {}, which no factor is stored in", formats::dtype_name(view.dtype)));
    return;
  }
  const std::vector<std::int64_t> sizes(view.shape.begin(), view.shape.end());
  const auto [place, is_new] =
      factors.entries.emplace(tensor.meaning.role, Factors::Entry{tensor.key, tensor_of(view, *type, sizes)});
  if (!is_new)
    problem(tensor.key, fmt::format("is for the layer {} as '{}' is", layer.name, place->second.key));
  bytes_ += static_cast<double>(view.bytes.size());
}

bool Reader::set_magnitude(const AdaptableLayer& layer, const Factors& factors, nn::LowRank& out) {
  if (factors.has(FactorRole::kMagnitude)) out.magnitude = factors.tensor(FactorRole::kMagnitude);
  if (!factors.has(FactorRole::kDoraScale)) return true;
  out.magnitude = factors.tensor(FactorRole::kDoraScale);
  const auto of = magnitude_of(out.magnitude, layer.layer->weight_shape());
  if (!of) {
    problem(factors.entries.at(FactorRole::kDoraScale).key,
            fmt::format("is {}, which fits neither the outputs nor the inputs of the weight [{}]",
                        shape_text(out.magnitude), fmt::join(layer.layer->weight_shape(), ",")));
    return false;
  }
  out.magnitude_of = *of;
  return true;
}

std::optional<double> Reader::scale(const AdaptableLayer& layer, const Factors& factors,
                                    const std::string& part, std::int64_t rank) {
  if (factors.has(FactorRole::kAlpha)) {
    const auto& [key, alpha] = factors.entries.at(FactorRole::kAlpha);
    const double value = alpha.numel() == 1 ? alpha.to(c10::ScalarType::Double).item<double>() : NAN;
    if (std::isfinite(value)) return value / static_cast<double>(rank);
    problem(key, "is not one finite number");
    return std::nullopt;
  }
  const LoraSettings* settings = source_.settings(part);
  return settings != nullptr ? settings->scale(layer.name, rank) : 1.0;
}

std::optional<Reader::Change> Reader::change(const AdaptableLayer& layer, const Factors& factors,
                                             const std::string& part) {
  for (const auto& [role, name] : {std::pair{FactorRole::kDown, "down (A)"}, {FactorRole::kUp, "up (B)"}}) {
    if (factors.has(role)) continue;
    problem(factors.any_key(), fmt::format("is there, but no {} factor for the same layer", name));
    return std::nullopt;
  }
  Change out{&layer, {.down = factors.tensor(FactorRole::kDown), .up = factors.tensor(FactorRole::kUp)}};
  if (!set_magnitude(layer, factors, out.factors)) return std::nullopt;
  std::string wrong = nn::misfit(out.factors, layer.layer->weight_shape());
  if (wrong.empty() && out.factors.down.size(0) == 0) wrong = "the rank is 0";
  if (!wrong.empty()) {
    problem(factors.any_key(), fmt::format("is for the layer {}, but {}", layer.name, wrong));
    return std::nullopt;
  }
  const LoraSettings* settings = source_.settings(part);
  if (settings != nullptr && settings->dora() && !out.factors.magnitude.defined())
    problem(factors.any_key(), "has no magnitude beside it, but the adapter's config says use_dora");
  const auto own = scale(layer, factors, part, out.factors.down.size(0));
  if (!own) return std::nullopt;
  out.factors.scale = *own * user_scale_;
  return out;
}

std::vector<Reader::Change> Reader::read(const std::vector<Target>& targets) {
  const auto tensors = understand();
  if (source_.tensors().names().empty()) problems_.add(source_.file() + ": there is no tensor in it");
  const std::string unnamed = part_of_unnamed(tensors, targets);
  std::map<std::string, ByLayer> by_part;
  for (const NamedTensor& tensor : tensors) {
    const std::string& part = tensor.meaning.part.empty() ? unnamed : tensor.meaning.part;
    const auto target =
        std::find_if(targets.begin(), targets.end(), [&](const Target& t) { return t.part == part; });
    const AdaptableLayer* layer =
        target == targets.end() ? nullptr : target->layers.find(tensor.meaning.layer);
    if (layer != nullptr) {
      take(tensor, *layer, by_part[part][layer]);
    } else {
      std::vector<std::string> parts;
      for (const Target& t : targets) parts.push_back(t.part);
      problem(tensor.key, fmt::format("belongs to no layer of {}", fmt::join(parts, ", ")));
    }
  }
  std::vector<Change> out;
  for (const auto& [part, layers] : by_part)
    for (const auto& [layer, factors] : layers)
      if (auto made = change(*layer, factors, part)) out.push_back(*std::move(made));
  return out;
}

at::Tensor own_fp32(const at::Tensor& x) {
  return x.defined() ? x.to(c10::ScalarType::Float, /*non_blocking=*/false, /*copy=*/true) : x;
}

}  // namespace

struct Adapters::Impl {
  std::deque<AdapterSource> sources;  // the factors lie in their files
  std::vector<Target> targets;
  std::map<const AdaptableLayer*, std::vector<nn::LowRank>> changes;  // in the order of the files
  double bytes = 0;
};

Adapters::Adapters(const std::vector<AdapterFile>& files, const std::vector<AdapterTarget>& targets)
    : impl_(std::make_unique<Impl>()) {
  for (const AdapterTarget& target : targets)
    impl_->targets.push_back({target.part, LayerIndex(*target.module)});
  core::ProblemList problems("adapters");
  for (const AdapterFile& file : files) {
    Reader reader(impl_->sources.emplace_back(file.path), file.scale, problems);
    for (auto& change : reader.read(impl_->targets))
      impl_->changes[change.layer].push_back(std::move(change.factors));
    impl_->bytes += reader.bytes();
  }
  problems.throw_if_any();
}

Adapters::~Adapters() = default;

void Adapters::apply(AdapterUse use, c10::ScalarType dtype) {
  for (const auto& [layer, changes] : impl_->changes) {
    if (use == AdapterUse::kMerged) {
      at::Tensor& weight = layer->weight->value;
      core::internal_check(weight.defined(), "adapters are merged into loaded weights");
      weight = nn::merged(weight, changes).to(dtype);
      continue;
    }
    for (const nn::LowRank& change : changes)
      layer->layer->attach({.down = own_fp32(change.down),
                            .up = own_fp32(change.up),
                            .magnitude = own_fp32(change.magnitude),
                            .scale = change.scale,
                            .magnitude_of = change.magnitude_of});
  }
}

std::uint64_t Adapters::layers() const {
  return impl_->changes.size();
}

double Adapters::bytes() const {
  return impl_->bytes;
}

}  // namespace muster::models
