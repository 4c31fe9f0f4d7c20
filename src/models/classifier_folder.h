// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "models/sentence_folder.h"

namespace muster::models {

/// A classifier's folder, read from its config files alone: the encoder's structure with the head as the
/// steps behind pooling.
struct ClassifierFolder {
  SentenceFolder encoder;
  std::vector<std::string> class_names;  ///< by id
  std::string head;                      ///< "linear", "bilinear"
  std::string problem_type;              ///< as config.json says; "" when it does not
};

/// DataError names file and key; an encoder without a head is refused with what to do.
ClassifierFolder read_classifier_folder(const std::string& folder, const EncoderOverrides& overrides);

}  // namespace muster::models
