// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "muster/taxonomy/hierarchy.h"

namespace muster::phases {

/// The classes of a task. Names are unique; `keywords` has a list for each class, empty where none are known.
struct LabelSpace {
  std::vector<std::string> names;
  taxonomy::Hierarchy hierarchy;
  std::vector<std::vector<std::string>> keywords;
};

/// Reads, each of them gzipped or not,
///   classes:   id<TAB>name, ids 0, 1, 2 ... in order, names unique
///   hierarchy: parent<TAB>child, ids or names; without a file all classes are roots
///   keywords:  name:term,term,... split at the first colon
/// An empty path means that there is no such file. DataError lists all problems of a file with their lines.
/// Classes that no edge names are legal, but told.
LabelSpace read_label_space(const std::string& classes_path, const std::string& hierarchy_path,
                            const std::string& keywords_path);

/// The hierarchy file alone, over classes that are known already.
taxonomy::Hierarchy read_class_hierarchy(const std::string& path, const std::vector<std::string>& names);

/// Finds classes by what a file calls them.
class ClassLookup {
 public:
  explicit ClassLookup(const std::vector<std::string>& names);
  /// Of a name, or of an id in digits; nullopt when there is none, or when digits are the id of one class and
  /// the name of another.
  std::optional<taxonomy::ClassId> find(std::string_view word) const;
  std::optional<taxonomy::ClassId> find_name(std::string_view name) const;
  /// Why find() found nothing, in words for a message.
  std::string why_not(std::string_view word) const;

 private:
  const std::vector<std::string>& names_;
  std::unordered_map<std::string_view, taxonomy::ClassId> by_name_;
};

/// Where the files of a data set are; an empty path where the folder has no such file.
struct DatasetLayout {
  std::string name;  ///< "Amazon_products" or "TELEClass"
  std::string classes, hierarchy, keywords;
  std::string train_corpus, test_corpus;  ///< id<TAB>text without a header, whatever their names end in
  std::string train_gold, test_gold;      ///< label files, for comparison and scoring only
};

/// Recognises the two layouts that are in use for weakly supervised hierarchical classification:
/// the Kaggle course's Amazon_products (classes.txt, class_hierarchy.txt, class_related_keywords.txt,
/// train/train_corpus.txt, test/test_corpus.txt; gold labels in gold/) and TELEClass's own (labels.txt,
/// label_hierarchy.txt, train/llm_enrichment.txt, {train,test}/corpus.txt, {train,test}/doc2labels.txt).
/// Every file may end in .gz as well. Looks only at which files there are. DataError says what is missing.
DatasetLayout find_layout(const std::string& folder);

}  // namespace muster::phases
