// SPDX-License-Identifier: Apache-2.0
#include "phases/infer/class_space.h"

#include <fmt/format.h>

#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "phases/labels/class_files.h"

namespace muster::phases {
namespace {

// transformers' names for classes that nobody named.
bool is_placeholder(const std::string& name, std::size_t id) {
  return name == fmt::format("LABEL_{}", id);
}

// The file rules, but the same number of classes in another order is most likely a mistake.
void warn_of_other_names(const std::string& path, const std::vector<std::string>& names,
                         const std::vector<std::string>& of_model) {
  for (std::size_t id = 0; id < names.size(); ++id) {
    if (names[id] == of_model[id] || is_placeholder(of_model[id], id)) continue;
    return core::log::warning(
        "{}: class {} is '{}' here and '{}' in the model's config.json; the file's names "
        "are used",
        path, id, core::printable(names[id]), core::printable(of_model[id]));
  }
}

}  // namespace

ClassSpace read_class_space(const InferOptions& options, const models::ClassifierDescription& model) {
  ClassSpace space;
  const std::string& path = options.classes_path;
  space.names = path.empty() ? model.class_names : read_label_space(path, "", "").names;
  if (space.names.size() != model.class_names.size())
    throw core::DataError(fmt::format(
        "{} has {} classes, but the model gives {} logits; is it the file that the model was trained with?",
        path, space.names.size(), model.class_names.size()));
  if (!path.empty()) warn_of_other_names(path, space.names, model.class_names);
  space.hierarchy = options.hierarchy_path.empty()
                        ? taxonomy::Hierarchy(space.names.size())
                        : read_class_hierarchy(options.hierarchy_path, space.names);
  return space;
}

}  // namespace muster::phases
