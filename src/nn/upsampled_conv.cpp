// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/upsampled_conv.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <map>
#include <string>
#include <utility>

#include "muster/core/error.h"

namespace muster::nn {
namespace {

constexpr std::int64_t kPlaces = 2;  // of a pixel, in each direction
// The neighbour before and the pixel itself, or the pixel and its neighbour behind: padding on both sides
// serves both, and each leaves out one end.
constexpr ConvShape kPairs{.kernel = 2, .stride = 1, .padding = 1};

/// Of three weights along a dimension, those of one place: the two that meet the same pixel are added.
at::Tensor paired(const at::Tensor& weight, std::int64_t dimension, std::int64_t place) {
  const auto tap = [&](std::int64_t index) { return weight.narrow(dimension, index, 1); };
  return place == 0 ? at::cat({tap(0), tap(1) + tap(2)}, dimension)
                    : at::cat({tap(0) + tap(1), tap(2)}, dimension);
}

void set_parameters(Conv2d& conv, const at::Tensor& weight, const at::Tensor& bias) {
  conv.visit_parameters([&](const std::string& name, Parameter& parameter) {
    parameter.value = name == "weight" ? weight : bias;
  });
}

}  // namespace

UpsampledConv2d::UpsampledConv2d(Extent in, Extent out, Enlargement enlargement)
    : Conv2d(in, out), enlargement_(enlargement), in_(in), out_(out) {}

void UpsampledConv2d::attach(LowRank adapter) {
  has_adapters_ = true;
  Conv2d::attach(std::move(adapter));
}

void UpsampledConv2d::on_prepare(const ComputeTarget& target) {
  if (has_adapters_) return Conv2d::on_prepare(target);
  std::map<std::string, at::Tensor> values;
  visit_parameters([&](const std::string& name, Parameter& parameter) {
    values[name] = parameter.value;
    if (enlargement_ == Enlargement::kDoubled) parameter.value.reset();
  });
  const at::Tensor weight = values.at("weight").to(c10::ScalarType::Float);
  for (std::int64_t place = 0; place < kPlaces * kPlaces; ++place) {
    places_.push_back(std::make_unique<Conv2d>(in_, out_, kPairs));
    set_parameters(*places_.back(), paired(paired(weight, 2, place / kPlaces), 3, place % kPlaces),
                   values.at("bias"));
    places_.back()->prepare(target);
  }
  if (enlargement_ == Enlargement::kAny) Conv2d::on_prepare(target);
}

at::Tensor UpsampledConv2d::enlarge(const at::Tensor& x) const {
  return enlarge(x, kPlaces * x.size(2), kPlaces * x.size(3));
}

at::Tensor UpsampledConv2d::enlarge(const at::Tensor& x, std::int64_t height, std::int64_t width) const {
  const std::int64_t rows = x.size(2), columns = x.size(3);
  const bool doubled = height == kPlaces * rows && width == kPlaces * columns;
  core::internal_check(doubled || enlargement_ == Enlargement::kAny, "a picture is made twice as large");
  if (places_.empty() || !doubled) return forward(upsample_nearest(x, height, width));
  at::Tensor out =
      at::empty({x.size(0), out_.size, height, width}, x.options(), c10::MemoryFormat::ChannelsLast);
  for (std::int64_t place = 0; place < kPlaces * kPlaces; ++place) {
    const std::int64_t down = place / kPlaces, right = place % kPlaces;
    out.slice(2, down, height, kPlaces)
        .slice(3, right, width, kPlaces)
        .copy_(places_[static_cast<std::size_t>(place)]
                   ->forward(x)
                   .narrow(2, down, rows)
                   .narrow(3, right, columns));
  }
  return out;
}

}  // namespace muster::nn
