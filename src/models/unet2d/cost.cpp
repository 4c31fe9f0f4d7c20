// SPDX-License-Identifier: Apache-2.0
#include "models/unet2d/cost.h"

#include <algorithm>
#include <vector>

namespace muster::models::unet2d {
namespace {

double pixels(Size size) {
  return static_cast<double>(size.height) * static_cast<double>(size.width);
}

Size halved(Size size) {
  return {(size.height + 1) / 2, (size.width + 1) / 2};
}

// A walk through the layers in their order, told what each does.
class Walk {
 public:
  Walk(const UNet2DConfig& config, std::int64_t tokens)
      : config_(config), tokens_(static_cast<double>(tokens)) {}

  void run(Size size) {
    std::vector<Skip> skips;
    convolve(config_.in_channels, config_.channels.front(), 3, size);
    std::int64_t now = config_.channels.front();
    keep(skips, now, size);
    const std::size_t blocks = config_.channels.size();
    for (std::size_t block = 0; block < blocks; ++block) {
      for (std::int64_t i = 0; i < config_.layers[block]; ++i) {
        residual(now, config_.channels[block], size);
        now = config_.channels[block];
        transform(now, config_.transformers[block], size);
        keep(skips, now, size);
      }
      if (block + 1 == blocks) continue;
      size = halved(size);
      convolve(now, now, 3, size);
      keep(skips, now, size);
    }
    if (config_.mid_transformers > 0) {
      residual(now, now, size);
      transform(now, config_.mid_transformers, size);
      residual(now, now, size);
    }
    for (std::size_t block = blocks; block-- > 0;) {
      for (std::int64_t i = 0; i <= config_.layers[block]; ++i) {
        const Skip skip = skips.back();
        residual(now + skip.channels, config_.channels[block], size);
        skips.pop_back();
        kept_ -= static_cast<double>(skip.channels) * pixels(skip.size);
        now = config_.channels[block];
        transform(now, config_.transformers[block], size);
      }
      if (block == 0) continue;
      size = skips.back().size;
      convolve(now, now, 3, size);
    }
    convolve(now, config_.out_channels, 3, size);
  }

  double flops() const { return flops_; }
  double most() const { return most_; }

 private:
  struct Skip {
    std::int64_t channels;
    Size size;
  };

  void keep(std::vector<Skip>& skips, std::int64_t channels, Size size) {
    skips.push_back({channels, size});
    kept_ += static_cast<double>(channels) * pixels(size);
  }

  void use(double elements) { most_ = std::max(most_, kept_ + elements); }

  void multiply(double rows, std::int64_t in, std::int64_t out) {
    flops_ += 2 * rows * static_cast<double>(in) * static_cast<double>(out);
  }

  void convolve(std::int64_t in, std::int64_t out, std::int64_t kernel, Size size) {
    multiply(pixels(size), in * kernel * kernel, out);
    use(static_cast<double>(in + out) * pixels(size));
  }

  // Its input, behind the norm, and what comes out, beside the shortcut.
  void residual(std::int64_t in, std::int64_t out, Size size) {
    multiply(1, config_.time_width(), out);
    convolve(in, out, 3, size);
    convolve(out, out, 3, size);
    if (in != out) convolve(in, out, 1, size);
    use(static_cast<double>(2 * in + 2 * out) * pixels(size));
  }

  void transform(std::int64_t width, std::int64_t blocks, Size size) {
    if (blocks == 0) return;
    const double rows = pixels(size), count = static_cast<double>(blocks);
    multiply(2 * rows, width, width);           // in and out
    multiply(count * rows * 6, width, width);   // q, k, v, out; q, out
    multiply(count * rows, width, 12 * width);  // 8 in, 4 out
    flops_ += count * 4 * rows * (rows + tokens_) * static_cast<double>(width);
    // The picture, the rows and the widest layer between them; a head's scores never lie in memory whole.
    use(rows * static_cast<double>(width) * (3 + 8 + 4));
  }

  const UNet2DConfig& config_;
  double tokens_;
  double flops_ = 0, kept_ = 0, most_ = 0;
};

}  // namespace

double step_flops(const UNet2DConfig& config, Size size, std::int64_t tokens) {
  Walk walk(config, tokens);
  walk.run(size);
  return walk.flops();
}

double activation_elements(const UNet2DConfig& config, Size size) {
  Walk walk(config, 0);
  walk.run(size);
  return walk.most();
}

}  // namespace muster::models::unet2d
