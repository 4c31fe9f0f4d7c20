// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "muster/diffusion/text_to_image.h"
#include "support.h"

namespace muster::diffusion {

inline PipelineConfig config_of(const std::string& name) {
  PipelineConfig config;
  config.folder = fixture(name);
  return config;
}

inline std::unique_ptr<TextToImage> load(const std::string& name) {
  return load_text_to_image(config_of(name));
}

inline PictureRequest small_request(std::uint64_t seed) {
  PictureRequest request;
  request.prompt = "a cat on the mat";
  request.seed = seed;
  request.width = 24;
  request.height = 16;
  request.steps = 3;
  request.guidance = 4;
  return request;
}

/// Differ in all that requests of a call may differ in.
inline std::vector<PictureRequest> four_requests(const std::string& sampler) {
  std::vector<PictureRequest> out;
  for (std::uint64_t i = 0; i < 4; ++i) {
    PictureRequest request = small_request(10 + i);
    request.sampler = sampler;
    request.prompt = i % 2 == 0 ? "a cat" : "a bird sitting in the rain";
    request.negative_prompt = i == 3 ? "a dog" : "";
    request.guidance = 3 + static_cast<double>(i);
    request.guidance_rescale = i == 2 ? 0.5 : 0;
    out.push_back(request);
  }
  return out;
}

inline std::string long_prompt() {
  std::string prompt;
  for (int i = 0; i < 30; ++i) prompt += "the quick brown fox jumps over the lazy dog ";
  return prompt;
}

/// The largest difference of two pictures' pixels; 255 where they differ in size.
inline int largest_step(const Picture& picture, const at::Tensor& expected) {
  if (static_cast<std::size_t>(expected.numel()) != picture.rgb.size()) return 255;
  int largest = 0;
  const auto* bytes = expected.const_data_ptr<std::uint8_t>();
  for (std::size_t i = 0; i < picture.rgb.size(); ++i)
    largest = std::max(largest, std::abs(int{picture.rgb[i]} - int{bytes[i]}));
  return largest;
}

/// What generate_pictures.py wrote for a pipeline.
class PictureCases {
 public:
  explicit PictureCases(const std::string& pipeline)
      : cases_(formats::read_json(fixture("pictures/cases.json"))),
        file_(formats::Safetensors::open(fixture("pictures/" + pipeline + ".safetensors"))) {}

  std::size_t size() const { return cases_.size(); }
  PictureRequest request(std::size_t index) const {
    const auto entry = cases_.element(index);
    PictureRequest out;
    out.prompt = entry.get<std::string>("prompt");
    out.negative_prompt = entry.get<std::string>("negative_prompt");
    out.seed = entry.get<std::uint64_t>("seed");
    out.width = entry.get<std::uint32_t>("width");
    out.height = entry.get<std::uint32_t>("height");
    out.steps = entry.get<std::uint32_t>("steps");
    out.guidance = entry.get<double>("guidance");
    out.guidance_rescale = entry.get<double>("guidance_rescale");
    out.sampler = entry.get<std::string>("sampler");
    return out;
  }
  at::Tensor latents(std::size_t index) const { return tensor_of(file_, fmt::format("latents.{}", index)); }
  at::Tensor picture(std::size_t index) const { return tensor_of(file_, fmt::format("picture.{}", index)); }

 private:
  formats::JsonValue cases_;
  formats::Safetensors file_;
};

}  // namespace muster::diffusion
