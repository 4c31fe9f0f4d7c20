// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "models/clip_vision/clip_pixels.h"

namespace muster::models {
namespace {

// Weights are rounded to so many bits behind the point.
constexpr int kBits = 22;
constexpr std::int64_t kChannels = 3;

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/// What an output pixel is made of along one side.
struct Window {
  std::int64_t first = 0;
  std::vector<std::int64_t> weights;
};

std::vector<Window> windows(std::int64_t in, std::int64_t out) {
  constexpr double kReach = 2;
  const double scale = static_cast<double>(in) / static_cast<double>(out), stretch = std::max(scale, 1.0);
  const double reach = kReach * stretch;
  std::vector<Window> all(static_cast<std::size_t>(out));
  std::vector<double> exact;
  for (std::int64_t i = 0; i < out; ++i) {
    Window& window = all[static_cast<std::size_t>(i)];
    const double center = (static_cast<double>(i) + 0.5) * scale;
    window.first = std::max<std::int64_t>(0, static_cast<std::int64_t>(center - reach + 0.5));
    const std::int64_t end = std::min(in, static_cast<std::int64_t>(center + reach + 0.5));
    exact.clear();
    double sum = 0;
    for (std::int64_t k = window.first; k < end; ++k) {
      exact.push_back(cubic((static_cast<double>(k) - center + 0.5) * (1.0 / stretch)));
      sum += exact.back();
    }
    for (const double weight : exact) {
      const double fixed = (sum != 0 ? weight / sum : weight) * (1 << kBits);
      window.weights.push_back(static_cast<std::int64_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
    }
  }
  return all;
}

// One value, of pixels `step` apart.
std::uint8_t weighted(const Window& window, const std::uint8_t* from, std::int64_t step) {
  std::int64_t sum = std::int64_t{1} << (kBits - 1);
  for (const std::int64_t weight : window.weights) {
    sum += weight * *from;
    from += step;
  }
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> kBits, 0, 255));
}

PixelGrid resize_rows(const PixelGrid& in, std::int64_t width) {
  PixelGrid out{width, in.height, {}};
  out.rgb.resize(static_cast<std::size_t>(width * in.height * kChannels));
  const auto all = windows(in.width, width);
  for (std::int64_t y = 0; y < in.height; ++y)
    for (std::int64_t x = 0; x < width; ++x)
      for (std::int64_t c = 0; c < kChannels; ++c) {
        const Window& window = all[static_cast<std::size_t>(x)];
        const std::uint8_t* from = in.rgb.data() + (y * in.width + window.first) * kChannels + c;
        out.rgb[static_cast<std::size_t>((y * width + x) * kChannels + c)] =
            weighted(window, from, kChannels);
      }
  return out;
}

PixelGrid resize_columns(const PixelGrid& in, std::int64_t height) {
  const std::int64_t row = in.width * kChannels;
  PixelGrid out{in.width, height, {}};
  out.rgb.resize(static_cast<std::size_t>(row * height));
  const auto all = windows(in.height, height);
  for (std::int64_t y = 0; y < height; ++y) {
    const Window& window = all[static_cast<std::size_t>(y)];
    for (std::int64_t i = 0; i < row; ++i)
      out.rgb[static_cast<std::size_t>(y * row + i)] =
          weighted(window, in.rgb.data() + window.first * row + i, row);
  }
  return out;
}

}  // namespace

PixelGrid resize_bicubic(const RgbPicture& picture, std::int64_t width, std::int64_t height) {
  PixelGrid grid{picture.width, picture.height, {picture.rgb.begin(), picture.rgb.end()}};
  if (grid.width != width) grid = resize_rows(grid, width);
  if (grid.height != height) grid = resize_columns(grid, height);
  return grid;
}

}  // namespace muster::models
