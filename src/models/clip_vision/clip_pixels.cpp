// SPDX-License-Identifier: Apache-2.0
#include "models/clip_vision/clip_pixels.h"

#include <fmt/format.h>

#include <cmath>

#include "muster/core/error.h"

namespace muster::models {
namespace {

constexpr std::int64_t kMostSize = 1 << 14;

// Of the usual steps only those whose absence or change the config says are not there.
void refuse_other_steps(const formats::JsonValue& config) {
  for (const char* key : {"do_resize", "do_rescale", "do_normalize"})
    if (!config.get_or<bool>(key, true)) config.at(key).fail("is false, which is not supported");
  constexpr std::int64_t kBicubic = 3;
  if (config.get_or<std::int64_t>("resample", kBicubic) != kBicubic)
    config.at("resample").fail("is not 3: only bicubic scaling is supported");
}

std::int64_t read_edge(const formats::JsonValue& value) {
  const auto size = value.as<std::int64_t>();
  if (size < 1 || size > kMostSize) value.fail(fmt::format("is {}, expected 1 to {}", size, kMostSize));
  return size;
}

// 224, {"shortest_edge": 224} or {"height": 224, "width": 224}
void read_size(const formats::JsonValue& config, ClipPixelsConfig& out) {
  const auto size = config.find("size");
  if (!size || size->is_null()) return;
  if (!size->is_object()) {
    out.shortest_edge = read_edge(*size);
  } else if (const auto shortest = size->find("shortest_edge")) {
    if (size->has("longest_edge")) size->at("longest_edge").fail("is there, which is not supported");
    out.shortest_edge = read_edge(*shortest);
  } else {
    out.shortest_edge = 0;
    out.height = read_edge(size->at("height"));
    out.width = read_edge(size->at("width"));
  }
}

void read_crop(const formats::JsonValue& config, ClipPixelsConfig& out, std::int64_t size) {
  if (!config.get_or<bool>("do_center_crop", true)) return;
  out.crop_height = out.crop_width = size;
  const auto crop = config.find("crop_size");
  if (!crop || crop->is_null()) return;
  out.crop_height = read_edge(crop->is_object() ? crop->at("height") : *crop);
  out.crop_width = read_edge(crop->is_object() ? crop->at("width") : *crop);
}

void read_channels(const formats::JsonValue& config, const char* key, std::array<double, 3>& out) {
  const auto list = config.find(key);
  if (!list || list->is_null()) return;
  const auto values = list->as_list<double>();
  if (values.size() != out.size()) list->fail("has not three numbers");
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = values[i];
}

// From the middle: [3, height, width].
std::vector<float> cut(const PixelGrid& grid, const ClipPixelsConfig& config) {
  const std::int64_t height = config.crop_height > 0 ? config.crop_height : grid.height,
                     width = config.crop_width > 0 ? config.crop_width : grid.width;
  const std::int64_t top = (grid.height - height) / 2, left = (grid.width - width) / 2;
  std::vector<float> out;
  out.reserve(static_cast<std::size_t>(3 * height * width));
  for (std::size_t c = 0; c < 3; ++c)
    for (std::int64_t y = top; y < top + height; ++y)
      for (std::int64_t x = left; x < left + width; ++x) {
        const double byte = grid.rgb[static_cast<std::size_t>((y * grid.width + x) * 3) + c];
        out.push_back(static_cast<float>((byte * config.rescale - config.mean[c]) / config.deviation[c]));
      }
  return out;
}

}  // namespace

ClipPixelsConfig ClipPixelsConfig::read(const formats::JsonValue& config, std::int64_t size) {
  ClipPixelsConfig out;
  refuse_other_steps(config);
  read_size(config, out);
  read_crop(config, out, size);
  out.rescale = config.get_or<double>("rescale_factor", out.rescale);
  read_channels(config, "image_mean", out.mean);
  read_channels(config, "image_std", out.deviation);
  for (const double value : out.deviation)
    if (!(value > 0)) config.at("image_std").fail("has a number that is not above 0");
  const bool cuts = out.crop_height > 0;
  const std::int64_t least_height = out.shortest_edge > 0 ? out.shortest_edge : out.height,
                     least_width = out.shortest_edge > 0 ? out.shortest_edge : out.width;
  const bool fits =
      cuts ? out.crop_height == size && out.crop_width == size && least_height >= size && least_width >= size
           : out.shortest_edge == 0 && out.height == size && out.width == size;
  if (!fits)
    config.fail(fmt::format(
        "its 'size' and 'crop_size' do not make every picture {0} x {0} as the model's image_size says",
        size));
  return out;
}

std::vector<float> clip_pixels(const RgbPicture& picture, const ClipPixelsConfig& config) {
  const std::int64_t width = picture.width, height = picture.height;
  core::internal_check(
      width > 0 && height > 0 && picture.rgb.size() == static_cast<std::size_t>(3 * width * height),
      "a picture has three bytes a pixel");
  std::int64_t new_width = config.width, new_height = config.height;
  if (config.shortest_edge > 0) {
    const std::int64_t shortest = config.shortest_edge;
    new_width = width <= height ? shortest : shortest * width / height;
    new_height = width <= height ? shortest * height / width : shortest;
  }
  return cut(resize_bicubic(picture, new_width, new_height), config);
}

}  // namespace muster::models
