// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/survey.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <unordered_set>

#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/io/hdf5_results.h"
#include "phases/runner/prompt_input.h"

namespace muster::phases {
namespace {

constexpr const char* kChanged =
    "the input changed while the job ran; run the same command again, which checks it against the finished "
    "part";

struct Seen {
  std::uint64_t hash;
  std::uint64_t place;
};

void digest_part(core::Sha256& digest, std::string_view part) {
  const std::uint64_t size = part.size();
  digest.update(std::string_view(reinterpret_cast<const char*>(&size), sizeof size));
  digest.update(part);
}

// Places whose hash occurs more than once: the only rows whose ids must be compared.
std::unordered_set<std::uint64_t> suspects(std::deque<Seen>& seen) {
  std::sort(seen.begin(), seen.end(), [](const Seen& a, const Seen& b) { return a.hash < b.hash; });
  std::unordered_set<std::uint64_t> places;
  for (std::size_t i = 1; i < seen.size(); ++i) {
    if (seen[i].hash != seen[i - 1].hash) continue;
    places.insert(seen[i].place);
    places.insert(seen[i - 1].place);
  }
  return places;
}

// A second pass that looks at suspects only.
std::vector<std::uint64_t> find_duplicates(const formats::InputConfig& config,
                                           const std::unordered_set<std::uint64_t>& places,
                                           const RejectSink& reject) {
  struct First {
    std::uint64_t line;
    std::uint32_t file;
  };
  std::vector<std::uint64_t> duplicates;
  std::unordered_map<std::string, First> first;
  const auto source = io::open_items(config);
  formats::Item item;
  formats::Reject ignored;
  std::uint64_t place = 0;
  for (;;) {
    const auto kind = source->next(item, ignored);
    if (kind == formats::RowKind::kEnd) return duplicates;
    if (kind == formats::RowKind::kReject) continue;
    if (places.contains(place)) {
      const auto [known, is_new] = first.try_emplace(item.id, First{item.line, item.file});
      if (!is_new) {
        duplicates.push_back(place);
        const auto& files = source->files();
        reject({.line = item.line,
                .byte_offset = 0,
                .file = item.file,
                .reason = fmt::format("duplicate id: the same id is on line {} of {}", known->second.line,
                                      files.at(known->second.file)),
                .id = item.id},
               files);
      }
    }
    ++place;
  }
}

}  // namespace

Survey survey_input(const formats::InputConfig& config, const RejectSink& reject) {
  Survey survey;
  std::deque<Seen> seen;  // grows without a copy: a vector would need three times the memory while it moves
  const auto source = io::open_items(config);
  formats::Item item;
  formats::Reject damaged;
  core::Sha256 digest;
  for (;;) {
    const auto kind = source->next(item, damaged);
    if (kind == formats::RowKind::kEnd) break;
    if (kind == formats::RowKind::kReject) {
      ++survey.rejected;
      reject(damaged, source->files());
      continue;
    }
    seen.push_back({core::hash64(item.id), seen.size()});
    survey.replaced_utf8 += item.replaced_utf8;
    survey.text_bytes += item.text.size();
    digest_part(digest, item.id);
    digest_part(digest, item.text);
  }
  survey.remarks = source->remarks();
  const std::uint64_t accepted = seen.size();
  const auto places = suspects(seen);
  seen = {};
  if (!places.empty()) survey.duplicates = find_duplicates(config, places, reject);
  survey.rejected += survey.duplicates.size();
  survey.rows = accepted - survey.duplicates.size();
  survey.digest = digest.finish_hex();
  return survey;
}

AcceptedItems::AcceptedItems(const formats::InputConfig& config, const Survey& survey)
    : source_(io::open_items(config)), survey_(survey) {}
AcceptedItems::~AcceptedItems() = default;

bool AcceptedItems::next(formats::Item& item) {
  while (!ended_) {
    switch (source_->next(item, reject_)) {
      case formats::RowKind::kEnd:
        ended_ = true;
        if (row_ != survey_.rows || digest_.finish_hex() != survey_.digest) throw core::DataError(kChanged);
        return false;
      case formats::RowKind::kReject:
        continue;
      case formats::RowKind::kItem:
        break;
    }
    const bool is_duplicate =
        next_duplicate_ < survey_.duplicates.size() && survey_.duplicates[next_duplicate_] == place_;
    ++place_;
    digest_part(digest_, item.id);
    digest_part(digest_, item.text);
    if (is_duplicate) {
      ++next_duplicate_;
      continue;
    }
    if (row_ == survey_.rows) throw core::DataError(kChanged);
    item.row = row_++;
    return true;
  }
  return false;
}

formats::InputConfig input_of(const config::Config& config) {
  formats::InputConfig input{.paths = config.strings("input.path"),
                             .id_prefixes = config.strings("input.id_prefix"),
                             .texts = {},
                             .prompts = std::nullopt,
                             .format = formats::input_format_from_name(config.string("input.format")),
                             .id_column = config.string("input.id"),
                             .text_column = config.string("input.text"),
                             .limit = static_cast<std::uint64_t>(config.integer("run.limit"))};
  if (config.schema().find(kPromptsKey) != nullptr) add_prompts(config, input);
  return input;
}

}  // namespace muster::phases
