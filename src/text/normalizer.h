// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/formats/json.h"

namespace muster::text {

/// Buffers of one encode() in progress; they keep their capacity between texts.
struct NormalizerScratch {
  std::string text;
  std::u32string chars, spare;
};

struct BertNormalizerOptions {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  std::optional<bool> strip_accents;  ///< absent: as lowercase
  bool lowercase = true;
};

/// The "normalizer" section: a list of simple steps. Texts of ASCII bytes only take one pass over a table
/// when every step maps or drops single ASCII characters, as those of BERT do.
class Normalizer {
 public:
  Normalizer() { build_ascii_map(); }
  static Normalizer from_json(const formats::JsonValue& section);  ///< the section may be null
  static Normalizer from_options(const BertNormalizerOptions& options);

  /// The result is a view of `text` or of `scratch`.
  std::string_view apply(std::string_view text, NormalizerScratch& scratch) const;

 private:
  enum class Kind : std::uint8_t {
    kCleanText,
    kSpaceChinese,
    kDropNonspacing,
    kDropMarks,
    kLowercase,
    kNfd,
    kNfc,
    kNfkd,
    kNfkc,
    kStripLeft,
    kStripRight,
    kReplaceSpaces,
    kReplace,
    kPrepend,
  };
  struct Step {
    Kind kind;
    std::u32string pattern, content;  ///< kReplace; kReplaceSpaces and kPrepend have content only
  };

  void add(const formats::JsonValue& section);
  void add_bert(const BertNormalizerOptions& options);
  void add_replace(const formats::JsonValue& section);
  void add(Kind kind) { steps_.push_back({kind, {}, {}}); }
  void build_ascii_map();
  static void run(const Step& step, NormalizerScratch& scratch);

  static constexpr std::uint8_t kDrop = 0xFF;
  std::vector<Step> steps_;
  double growth_ = 1;  ///< how many times as long all replacements together can make a text
  bool has_ascii_map_ = false;
  std::array<std::uint8_t, 128> ascii_map_{};
};

}  // namespace muster::text
