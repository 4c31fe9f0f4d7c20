// SPDX-License-Identifier: Apache-2.0
#include "text/post_processor.h"

#include "text/component.h"

namespace muster::text {

namespace {

/// ["[SEP]", 102]
std::uint32_t id_of_pair(const formats::JsonValue& pair) {
  if (pair.size() != 2) pair.fail("is not a pair of a token and its id");
  return pair.element(1).as<std::uint32_t>();
}

}  // namespace

PostProcessor PostProcessor::from_json(const formats::JsonValue& section) {
  PostProcessor out;
  if (!section.is_null()) out.add(section);
  return out;
}

void PostProcessor::add(const formats::JsonValue& section) {
  const std::string type = component_type(section);
  if (type == "ByteLevel") return;  // moves offsets only
  if (type == "Sequence") {
    for (const auto& part : section.at("processors").elements()) add(part);
    return;
  }
  if (type != "BertProcessing" && type != "RobertaProcessing" && type != "TemplateProcessing") {
    fail_unsupported(section, type,
                     "BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing");
  }
  if (size() > 0) section.fail("is a second post-processor that adds special tokens, which is not supported");
  if (type == "TemplateProcessing") return add_template(section);
  before_.push_back(id_of_pair(section.at("cls")));
  after_.push_back(id_of_pair(section.at("sep")));
}

void PostProcessor::add_template(const formats::JsonValue& section) {
  bool seen_text = false;
  const auto pieces = section.at("single");
  for (const auto& piece : pieces.elements()) {
    if (const auto sequence = piece.find("Sequence")) {
      const auto name = sequence->at("id");
      if (name.view() != "A") name.fail("is not A, but the template is for a single text");
      if (seen_text) sequence->fail("puts the text into the template a second time, which is not supported");
      seen_text = true;
      continue;
    }
    const auto special = section.at("special_tokens").at(piece.at("SpecialToken").get<std::string>("id"));
    auto& ids = seen_text ? after_ : before_;
    for (const std::uint32_t id : special.at("ids").as_list<std::uint32_t>()) ids.push_back(id);
  }
  if (!seen_text) pieces.fail("is a template without the text ($A)");
}

}  // namespace muster::text
