// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "muster/models/text_classifier.h"
#include "muster/taxonomy/hierarchy.h"
#include "phases/infer/infer_options.h"

namespace muster::phases {

/// The classes that a model's logits stand for.
struct ClassSpace {
  std::vector<std::string> names;
  taxonomy::Hierarchy hierarchy;  ///< flat without taxonomy.hierarchy
};

/// Names from taxonomy.classes or the model. DataError when a file does not fit the model; it says both
/// numbers.
ClassSpace read_class_space(const InferOptions& options, const models::ClassifierDescription& model);

}  // namespace muster::phases
