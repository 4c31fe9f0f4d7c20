// SPDX-License-Identifier: Apache-2.0
#include "models/sentence_modules.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <cmath>

#include "muster/nn/linear.h"
#include "muster/nn/norm.h"
#include "muster/nn/tiles.h"

namespace muster::models {
namespace {

constexpr std::int64_t kMostOutputs = 1 << 20;

class Normalize final : public SentenceModule {
 public:
  explicit Normalize(std::int64_t width) : SentenceModule(width, width) {}

  at::Tensor forward(const at::Tensor& x) const override {
    at::Tensor out = x.clone();
    auto* row = out.mutable_data_ptr<float>();
    for (std::int64_t r = 0; r < out.size(0); ++r, row += outputs()) {
      double squares = 0;
      for (std::int64_t i = 0; i < outputs(); ++i) squares += static_cast<double>(row[i]) * row[i];
      const auto length = std::max(static_cast<float>(std::sqrt(squares)), 1e-12f);
      for (std::int64_t i = 0; i < outputs(); ++i) row[i] /= length;
    }
    return out;
  }
};

class Norm final : public SentenceModule {
 public:
  explicit Norm(nn::Extent width) : SentenceModule(width.size, width.size), norm_(width, 1e-5) {
    add_child("norm", norm_);
  }
  at::Tensor forward(const at::Tensor& x) const override { return norm_.forward(x); }

 private:
  nn::LayerNorm norm_;
};

struct DenseConfig {
  nn::Extent in, out;
  nn::Bias bias = nn::Bias::kYes;
  nn::Activation activation = nn::Activation::kTanh;
  bool use_residual = false;

  static DenseConfig read(const formats::JsonValue& json);
};

DenseConfig DenseConfig::read(const formats::JsonValue& json) {
  DenseConfig config{.in = {json.get<std::int64_t>("in_features"), "in_features"},
                     .out = {json.get<std::int64_t>("out_features"), "out_features"},
                     .bias = json.get_or<bool>("bias", true) ? nn::Bias::kYes : nn::Bias::kNo,
                     .use_residual = json.get_or<bool>("use_residual", false)};
  if (config.out.size < 1 || config.out.size > kMostOutputs)
    json.at("out_features").fail(fmt::format("is {}, expected 1 to {}", config.out.size, kMostOutputs));
  const auto activation = json.find("activation_function");
  if (!activation || activation->is_null()) return config;
  const std::string_view path = activation->view();
  const auto known = nn::activation_from_torch_class(path.substr(path.rfind('.') + 1));
  if (!path.starts_with("torch.") || !known)
    activation->fail(fmt::format("is '{}'; known: torch's Identity, Tanh, ReLU, GELU, SiLU, Sigmoid", path));
  config.activation = *known;
  return config;
}

class Dense final : public SentenceModule {
 public:
  explicit Dense(const DenseConfig& config)
      : SentenceModule(config.in.size, config.out.size),
        linear_(config.in, config.out, config.activation, config.bias),
        use_residual_(config.use_residual) {
    add_child("linear", linear_);
    if (!use_residual_ || inputs() == outputs()) return;
    residual_ = std::make_unique<nn::Linear>(config.in, config.out, nn::Activation::kIdentity, nn::Bias::kNo);
    add_child("residual", *residual_);
  }

  at::Tensor forward(const at::Tensor& x) const override {
    at::Tensor out = at::empty({x.size(0), outputs()}, x.options());
    for (std::int64_t row = 0; row < x.size(0); row += nn::kTileRows) {
      const at::Tensor tile = x.narrow(0, row, nn::kTileRows);
      at::Tensor projected = linear_.forward(tile);  // [tile, outputs]
      if (use_residual_) projected = projected + (residual_ ? residual_->forward(tile) : tile);
      out.narrow(0, row, nn::kTileRows).copy_(projected);
    }
    return out;
  }

 private:
  nn::Linear linear_;
  std::unique_ptr<nn::Linear> residual_;
  bool use_residual_;
};

// A micro-batch has few texts beside its many tokens: a tile of nn::kTileRows would be mostly padding, which
// a product with thousands of classes makes felt.
constexpr std::int64_t kHeadTileRows = 32;

/// A product of a classification head, on small tiles.
class HeadProduct : public SentenceModule {
 public:
  at::Tensor forward(const at::Tensor& x) const final {
    at::Tensor out = at::empty({x.size(0), outputs()}, x.options());
    product_.forward_rows(x, out);
    return out;
  }
  std::int64_t tile_rows() const final { return kHeadTileRows; }

 protected:
  using SentenceModule::SentenceModule;
  nn::PackedLinear product_;
};

class HeadDense final : public HeadProduct {
 public:
  explicit HeadDense(const DenseShape& shape)
      : HeadProduct(shape.inputs.size, shape.outputs.size),
        weight_(add_parameter(shape.name + ".weight", {shape.outputs, shape.inputs})),
        bias_(add_parameter(shape.name + ".bias", {shape.outputs})),
        activation_(shape.activation) {}

 protected:
  void on_prepare(const nn::ComputeTarget&) override {
    product_ = nn::PackedLinear::on_host(weight_.value, bias_.value, activation_, kHeadTileRows);
    weight_.value.reset();
    bias_.value.reset();
  }

 private:
  nn::Parameter& weight_;
  nn::Parameter& bias_;
  nn::Activation activation_;
};

// Both products are one: (x W) E^T = x (E W^T)^T, multiplied out once in double precision.
class Bilinear final : public HeadProduct {
 public:
  Bilinear(nn::Extent inputs, nn::Extent classes)
      : HeadProduct(inputs.size, classes.size),
        weight_(add_parameter("bilinear.weight", {inputs, inputs})),
        classes_(add_parameter("class_embeddings.weight", {classes, inputs})) {}

 protected:
  void on_prepare(const nn::ComputeTarget&) override {
    const auto as_double = [](const at::Tensor& value) { return value.to(c10::ScalarType::Double); };
    const at::Tensor folded = at::mm(as_double(classes_.value), as_double(weight_.value).t());
    product_ = nn::PackedLinear::on_host(folded.to(c10::ScalarType::Float), {}, nn::Activation::kIdentity,
                                         kHeadTileRows);
    weight_.value.reset();
    classes_.value.reset();
  }

 private:
  nn::Parameter& weight_;
  nn::Parameter& classes_;
};

// A module may be told to work on other tensors than the text's vector; then the text's vector is not what it
// is here.
void expect_sentence_vectors(const formats::JsonValue& config) {
  for (const char* key : {"module_input_name", "module_output_name"}) {
    const auto name = config.find(key);
    if (name && !name->is_null() && name->as<std::string>() != "sentence_embedding")
      name->fail(fmt::format("is '{}'; only 'sentence_embedding' is supported", name->view()));
  }
}

}  // namespace

std::unique_ptr<SentenceModule> make_normalize(std::int64_t width) {
  return std::make_unique<Normalize>(width);
}

std::unique_ptr<SentenceModule> make_dense(const DenseShape& shape) {
  return std::make_unique<HeadDense>(shape);
}

std::unique_ptr<SentenceModule> make_bilinear(nn::Extent inputs, nn::Extent classes) {
  return std::make_unique<Bilinear>(inputs, classes);
}

std::unique_ptr<SentenceModule> make_sentence_module(const std::string& kind,
                                                     const formats::JsonValue& config, std::int64_t inputs) {
  if (kind != "Normalize" && kind != "Dense" && kind != "LayerNorm") return nullptr;
  expect_sentence_vectors(config);
  if (kind == "Normalize") return make_normalize(inputs);
  const char* key = kind == "Dense" ? "in_features" : "dimension";
  const auto width = config.get<std::int64_t>(key);
  if (width != inputs)
    config.at(key).fail(fmt::format("is {}, but the module before it gives {}", width, inputs));
  if (kind == "Dense") return std::make_unique<Dense>(DenseConfig::read(config));
  return std::make_unique<Norm>(nn::Extent{inputs, "dimension"});
}

}  // namespace muster::models
