// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/formats/safetensors.h"
#include "muster/nn/module.h"

namespace muster::models {

/// Another spelling of a part of a name, for tensors that are not there under their own.
struct Spelling {
  std::string_view now, then;  ///< literals
};

/// Whether [out, in] may lie in the file as a convolution's [out, in, 1, 1].
enum class ConvShaped { kRefused, kAllowed };

/// How a checkpoint relates to a module's own names.
struct WeightRules {
  /// Before every name in checkpoints that were saved with a head: "bert.". Absent in the others.
  std::string prefix;
  /// Names a checkpoint may hold beyond the module's: exact, or everything below when it ends with a dot
  /// ("pooler.").
  std::vector<std::string> unused;
  /// Tried one by one.
  std::vector<Spelling> spellings;
  ConvShaped conv_shaped = ConvShaped::kRefused;
};

/// Nothing for what no weight is stored in.
std::optional<c10::ScalarType> floating_type(formats::DType dtype);
/// The view's bytes as a tensor, in place where they are aligned.
at::Tensor tensor_of(const formats::TensorView& view, c10::ScalarType type,
                     const std::vector<std::int64_t>& sizes);

/// Takes what is below `layer` from the names that may stay unused: it is the model's after all.
void claim(WeightRules& rules, std::string_view layer);

/// A checkpoint's names stand behind the encoder's prefix or, as those of heads, as they are.
enum class Naming { kBehindPrefix, kAsIs };

/// One of the modules that share a checkpoint.
struct WeightPart {
  nn::Module* module = nullptr;
  Naming naming = Naming::kBehindPrefix;
};

/// Whether a checkpoint has any tensor of `layer`, where `naming` puts it.
bool has_layer(const formats::Safetensors& checkpoint, const WeightRules& rules, std::string_view layer,
               Naming naming);

/// Points every parameter at its tensor in the mapped checkpoint, which must outlive prepare(). One DataError
/// lists every missing, mis-shaped and unused tensor; `config_path` is the file that decides the shapes.
void load_weights(nn::Module& module, const formats::Safetensors& checkpoint, const WeightRules& rules,
                  const std::string& config_path);
void load_weights(std::span<const WeightPart> parts, const formats::Safetensors& checkpoint,
                  const WeightRules& rules, const std::string& config_path);

/// The checkpoint of a folder; says what to do when there are only weights in another format.
formats::Safetensors open_checkpoint(const std::string& folder);

}  // namespace muster::models
