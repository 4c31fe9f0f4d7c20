// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "muster/core/philox.h"
#include "muster/text/tokenizer.h"

namespace muster::phases {

struct CaptionConfig {
  std::string separator = "|";               ///< between the captions in a picture's text
  double first = 0.5;                        ///< how often the first one is taken; the others share the rest
  std::vector<std::string> templates{"{}"};  ///< one of them is put around the caption
  double dropped = 0.1;                      ///< how often there is none: what guidance steers away from
};

/// What pictures are called: a picture's text holds one caption or several.
class Captions {
 public:
  Captions(const std::vector<std::string>& texts, CaptionConfig config);
  /// Of a picture, as the random numbers decide.
  std::string draw(std::uint32_t picture, core::Philox& random) const;
  /// Every caption in every template, for a vocabulary.
  std::vector<std::string> all() const;

 private:
  std::string in_template(const std::string& caption, std::size_t number) const;
  CaptionConfig config_;
  std::vector<std::vector<std::string>> captions_;  ///< of each picture, one at least
};

/// Ids of a caption as pipelines make them: cut and filled up to `positions`, behind the end with what the
/// tokenizer fills with.
void append_ids(const text::Tokenizer& tokenizer, const std::string& caption, std::uint32_t positions,
                std::vector<std::int64_t>& ids);

}  // namespace muster::phases
