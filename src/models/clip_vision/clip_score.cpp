// SPDX-License-Identifier: Apache-2.0
#include "muster/models/clip_score.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "models/clip_vision/clip_pixels.h"
#include "models/clip_vision/clip_vision.h"
#include "models/weights.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/models/clip_text.h"
#include "muster/nn/backend.h"

namespace muster::models {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
constexpr const char* kPixels = "preprocessor_config.json";

std::string needed_file(const std::string& folder, const char* name) {
  const fs::path path = fs::path(folder) / name;
  if (!fs::exists(path))
    throw core::DataError(fmt::format(
        "{}: there is no {}; expected the folder of a CLIPModel, as transformers saves it with its "
        "processor",
        folder, name));
  return path.string();
}

formats::JsonValue read_config(const std::string& folder) {
  auto config = formats::read_json(needed_file(folder, kConfig));
  const auto type = config.get_or<std::string>("model_type", "clip");
  if (type != "clip")
    config.at("model_type")
        .fail(fmt::format("is '{}'; scores are made with a CLIPModel ('clip'), which has a text and a vision "
                          "tower",
                          core::printable(type)));
  return config;
}

class ClipPair final : public ClipScore {
 public:
  ClipPair(const std::string& folder, const device::Device& device)
      : device_(nn::torch_device(device)), config_(read_config(folder)) {
    const std::int64_t projection = read_clip_size(config_, "projection_dim", 512, kMostClipWidth);
    ClipTextConfig text = ClipTextConfig::read(config_.at("text_config"));
    text.projection = projection;
    text_ = std::make_unique<ClipText>(text);
    const auto vision = ClipVisionConfig::read(config_.at("vision_config"), projection);
    image_size_ = vision.image_size;
    vision_ = std::make_unique<ClipVision>(vision);
    pixels_ = ClipPixelsConfig::read(formats::read_json(needed_file(folder, kPixels)), image_size_);
    load(folder);
  }

  double score(const RgbPicture& picture, std::span<const std::uint32_t> ids) const override {
    core::internal_check(!ids.empty() && ids.size() <= max_tokens(), "a text has its tokens");
    const c10::InferenceMode guard;
    const at::Tensor a = vision_->forward(to_device(picture)), b = text_->forward(to_device(ids)).projected;
    // On the host in double: the lengths of embeddings differ by orders of magnitude between models.
    const at::Tensor x = a.cpu().to(c10::ScalarType::Double).flatten(),
                     y = b.cpu().to(c10::ScalarType::Double).flatten();
    constexpr double kScale = 100;
    return kScale * (x.dot(y) / (x.norm() * y.norm())).item<double>();
  }

  std::uint32_t max_tokens() const override { return static_cast<std::uint32_t>(text_->config().positions); }
  std::uint32_t vocab_size() const override { return static_cast<std::uint32_t>(text_->config().vocab); }

 private:
  void load(const std::string& folder) {
    const auto checkpoint = open_checkpoint(folder);
    const WeightRules rules{.unused = {"logit_scale", "text_model.embeddings.position_ids",
                                       "vision_model.embeddings.position_ids"}};
    const WeightPart parts[] = {{text_.get()}, {vision_.get()}};
    load_weights(parts, checkpoint, rules, needed_file(folder, kConfig));
    const nn::ComputeTarget target{.device = device_};
    text_->prepare(target);
    vision_->prepare(target);
  }

  at::Tensor to_device(const RgbPicture& picture) const {
    const auto values = clip_pixels(picture, pixels_);
    at::Tensor out = at::empty({1, 3, image_size_, image_size_}, c10::ScalarType::Float);
    std::copy(values.begin(), values.end(), out.mutable_data_ptr<float>());
    return out.to(device_);
  }

  at::Tensor to_device(std::span<const std::uint32_t> ids) const {
    at::Tensor out = at::empty({1, static_cast<std::int64_t>(ids.size())}, c10::ScalarType::Long);
    std::copy(ids.begin(), ids.end(), out.mutable_data_ptr<std::int64_t>());
    return out.to(device_);
  }

  c10::Device device_;
  formats::JsonValue config_;
  std::int64_t image_size_ = 0;
  std::unique_ptr<ClipText> text_;
  std::unique_ptr<ClipVision> vision_;
  ClipPixelsConfig pixels_;
};

}  // namespace

std::unique_ptr<ClipScore> load_clip_score(const std::string& folder, const device::Device& device) {
  return std::make_unique<ClipPair>(folder, device);
}

std::vector<std::string> clip_score_files(const std::string& folder) {
  std::vector<std::string> out = {kConfig, kPixels};
  const formats::Safetensors weights = open_checkpoint(folder);
  for (const std::string& file : weights.files())
    out.push_back(fs::path(file).lexically_relative(folder).generic_string());
  for (const char* name : {"model.safetensors.index.json", "tokenizer.json", "vocab.json", "merges.txt",
                           "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
    if (fs::exists(fs::path(folder) / name)) out.emplace_back(name);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace muster::models
