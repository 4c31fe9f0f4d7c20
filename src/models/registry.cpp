// SPDX-License-Identifier: Apache-2.0
#include "models/registry.h"

#include <fmt/format.h>

#include "muster/core/strings.h"
#include "muster/models/text_encoder.h"

namespace muster::models {

using MakeTransformer = std::unique_ptr<Transformer>(const formats::JsonValue& config);

// An architecture is a folder with one of these, and its model types in the table.
MakeTransformer make_bert, make_mpnet, make_distilbert, make_roberta;

namespace {

struct Entry {
  const char* model_type;
  MakeTransformer* make;
};

constexpr Entry kArchitectures[] = {
    {"bert", make_bert},   {"camembert", make_roberta}, {"distilbert", make_distilbert},
    {"mpnet", make_mpnet}, {"roberta", make_roberta},   {"xlm-roberta", make_roberta},
};

}  // namespace

std::unique_ptr<Transformer> make_transformer(const formats::JsonValue& config) {
  const auto type = config.get<std::string>("model_type");
  for (const Entry& entry : kArchitectures)
    if (type == entry.model_type) return entry.make(config);
  config.at("model_type")
      .fail(fmt::format("is '{}'; the text encoders known are {}", core::printable(type),
                        core::join(registered_text_encoders(), ", ")));
}

std::vector<std::string> registered_text_encoders() {
  std::vector<std::string> names;
  for (const Entry& entry : kArchitectures) names.emplace_back(entry.model_type);
  return names;
}

}  // namespace muster::models
