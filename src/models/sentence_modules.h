// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "muster/formats/json.h"
#include "muster/nn/activation.h"
#include "muster/nn/module.h"
#include "muster/nn/tiles.h"

namespace muster::models {

/// What sentence-transformers puts behind pooling: one vector a text in, one out, in fp32 whatever the
/// transformer computes in.
class SentenceModule : public nn::Module {
 public:
  /// `x` is fp32 [rows in whole tiles, inputs] -> [rows, outputs]; a row depends on itself alone.
  virtual at::Tensor forward(const at::Tensor& x) const = 0;
  std::int64_t inputs() const { return inputs_; }
  std::int64_t outputs() const { return outputs_; }
  /// Rows of a whole tile.
  virtual std::int64_t tile_rows() const { return nn::kTileRows; }

 protected:
  SentenceModule(std::int64_t inputs, std::int64_t outputs) : inputs_(inputs), outputs_(outputs) {}

 private:
  std::int64_t inputs_, outputs_;
};

/// Scales rows to unit length.
std::unique_ptr<SentenceModule> make_normalize(std::int64_t width);
/// activation(x W^T + b) with the names of a head: "<name>.weight" [outputs, inputs] and "<name>.bias".
struct DenseShape {
  std::string name;
  nn::Extent inputs, outputs;
  nn::Activation activation = nn::Activation::kIdentity;
};
std::unique_ptr<SentenceModule> make_dense(const DenseShape& shape);
/// (x W) E^T, W "bilinear.weight" [inputs, inputs] and E "class_embeddings.weight" [classes, inputs].
std::unique_ptr<SentenceModule> make_bilinear(nn::Extent inputs, nn::Extent classes);
/// The module of this kind ("Dense", "LayerNorm", "Normalize") from its config.json, for vectors of `inputs`
/// values. Null when the kind is not one of them.
std::unique_ptr<SentenceModule> make_sentence_module(const std::string& kind,
                                                     const formats::JsonValue& config, std::int64_t inputs);

}  // namespace muster::models
