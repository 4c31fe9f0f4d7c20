// SPDX-License-Identifier: Apache-2.0
#include "text/model.h"

#include "text/byte_pair.h"
#include "text/component.h"
#include "text/word_piece.h"

namespace muster::text {

Vocabulary vocabulary_from_json(const formats::JsonValue& section) {
  Vocabulary out;
  for (const auto& [token, id] : section.members()) {
    if (const std::string problem = out.add(token, id.as<std::uint32_t>()); !problem.empty())
      section.fail(problem);
  }
  if (const std::string problem = out.seal(); !problem.empty()) section.fail(problem);
  return out;
}

namespace {

/// Files from before 2020 do not name their model; its own keys tell it.
std::string model_type(const formats::JsonValue& section) {
  if (section.has("type")) return component_type(section);
  if (section.has("merges")) return "BPE";
  if (section.has("max_input_chars_per_word")) return "WordPiece";
  return component_type(section);
}

}  // namespace

std::unique_ptr<Model> model_from_json(const formats::JsonValue& section) {
  const std::string type = model_type(section);
  if (type != "WordPiece" && type != "BPE") fail_unsupported(section, type, "BPE, WordPiece");
  Vocabulary vocabulary = vocabulary_from_json(section.at("vocab"));
  return type == "BPE" ? byte_pair_from_json(section, std::move(vocabulary))
                       : word_piece_from_json(section, std::move(vocabulary));
}

}  // namespace muster::text
