// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "muster/config/schema.h"
#include "phases/labels/class_files.h"

namespace muster::phases {

/// Every key of the pipeline: those of encode, train and infer, and its own.
config::Schema teleclass_schema();

/// The files that a config names, one by one or as a data set's folder.
struct TeleclassFiles {
  std::string classes, hierarchy, keywords;
  std::string train_corpus, test_corpus;  ///< train_corpus may be empty
  std::string test_gold;                  ///< of scoring alone; may be empty
};
/// Looks only at which files there are. ConfigError for what is missing.
TeleclassFiles find_teleclass_files(const config::Config& config);

/// id<TAB>text of every class, for encoding: teleclass.class_text with {name} and {keywords} filled in, "_"
/// as blanks. What stands with {keywords} behind the last comma before it is left out where there are none.
std::string class_texts(const LabelSpace& space, const std::string& format);
/// What is wrong with a value of teleclass.class_text; "" when nothing is.
std::string check_class_text(const std::string& format);

}  // namespace muster::phases
