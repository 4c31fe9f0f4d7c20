// SPDX-License-Identifier: Apache-2.0
#include "phases/train/captions.h"

#include "muster/core/error.h"
#include "muster/core/strings.h"

namespace muster::phases {
namespace {

constexpr std::string_view kPlace = "{}";

std::vector<std::string> split_captions(const std::string& text, const std::string& separator) {
  std::vector<std::string> captions;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t found = separator.empty() ? std::string::npos : text.find(separator, begin);
    const std::size_t end = found == std::string::npos ? text.size() : found;
    const auto caption = core::trim(std::string_view(text).substr(begin, end - begin));
    if (!caption.empty()) captions.emplace_back(caption);
    begin = found == std::string::npos ? text.size() + 1 : end + separator.size();
  }
  if (captions.empty()) captions.emplace_back();
  return captions;
}

}  // namespace

Captions::Captions(const std::vector<std::string>& texts, CaptionConfig config) : config_(std::move(config)) {
  for (const std::string& one : config_.templates)
    if (one.find(kPlace) == std::string::npos)
      throw core::ConfigError("train.templates: '" + core::printable(one) +
                              "' has no {} for the caption, as in 'a picture of a {}'");
  for (const auto& text : texts) captions_.push_back(split_captions(text, config_.separator));
}

std::string Captions::in_template(const std::string& caption, std::size_t number) const {
  std::string out = config_.templates[number];
  return out.replace(out.find(kPlace), kPlace.size(), caption);
}

std::string Captions::draw(std::uint32_t picture, core::Philox& random) const {
  // Always as many numbers: what is drawn behind them does not depend on the captions.
  const double drops = random.next_uniform(), first = random.next_uniform();
  const auto& captions = captions_[picture];
  const auto other = random.next_u32(), form = random.next_u32();
  if (drops < config_.dropped) return "";
  const bool takes_first = captions.size() == 1 || first < config_.first;
  const std::size_t number = takes_first ? 0 : 1 + other % (captions.size() - 1);
  return in_template(captions[number], form % config_.templates.size());
}

std::vector<std::string> Captions::all() const {
  std::vector<std::string> out;
  for (const auto& captions : captions_)
    for (const auto& caption : captions)
      for (std::size_t number = 0; number < config_.templates.size(); ++number)
        out.push_back(in_template(caption, number));
  return out;
}

void append_ids(const text::Tokenizer& tokenizer, const std::string& caption, std::uint32_t positions,
                std::vector<std::int64_t>& ids) {
  text::Encoding encoding;
  tokenizer.encode(caption, positions, encoding);
  const auto special = tokenizer.special_ids();
  core::internal_check(special.end.has_value(), "a CLIP tokenizer has an end token");
  encoding.ids.resize(positions, special.pad.value_or(*special.end));
  ids.insert(ids.end(), encoding.ids.begin(), encoding.ids.end());
}

}  // namespace muster::phases
