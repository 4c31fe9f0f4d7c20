// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "muster/taxonomy/hierarchy.h"

namespace muster::phases {

/// What a label file says of one document.
struct DocumentLabels {
  std::string id;
  std::vector<taxonomy::ClassId> labels;   ///< in the file's order, once each
  std::vector<taxonomy::ClassId> ignored;  ///< neither true nor false: weight 0 in training, likewise
  float weight = 1;                        ///< of the document in training
  bool operator==(const DocumentLabels&) const = default;
};

/// Reads id<TAB>label,label,...[<TAB>ignored,...[<TAB>weight]], gzipped or not. Labels are names or ids of
/// classes; a lone "-" or nothing is none. A first row "id<TAB>labels..." is a header. DataError lists all
/// problems with their lines: unknown classes, a document that comes twice, a weight below 0 or no number.
std::vector<DocumentLabels> read_labels(const std::string& path, const std::vector<std::string>& class_names);

/// The same format, with ids of classes; equal rows give equal bytes.
std::string labels_text(std::span<const DocumentLabels> rows);
/// Publishes it.
void write_labels(const std::string& path, std::span<const DocumentLabels> rows);

/// Where each document is in `rows`, which must stay.
std::unordered_map<std::string_view, std::size_t> rows_by_id(std::span<const DocumentLabels> rows);

}  // namespace muster::phases
