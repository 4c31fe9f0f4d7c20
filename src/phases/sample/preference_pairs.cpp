// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/preference_pairs.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/formats/table.h"
#include "muster/models/clip_score.h"
#include "muster/text/tokenizer.h"
#include "phases/sample/contact_sheets.h"
#include "phases/sample/picture_files.h"
#include "phases/text_model/model_choice.h"

namespace muster::phases {
namespace {

std::vector<PairMember> members_of(const PublishContext& context, const PublishedPictures& pictures) {
  context.step("preference pairs");
  std::vector<PairMember> members;
  for (std::uint64_t i = 0; i < pictures.size(); ++i) {
    const auto picture = pictures.read(i);
    members.push_back({.prompt_row = picture.facts.row,
                       .copy = picture.facts.copy,
                       .prompt = picture.prompt,
                       .file = picture_file(picture.facts.rank, pictures.item(i)),
                       .seed = picture.facts.seed,
                       .clip_score = std::nullopt});
  }
  return members;
}

/// This rank's part of the scores of all pictures that have a partner: lines of index and score.
std::string score_share(const PublishContext& context, const std::vector<PairMember>& members,
                        const SampleOptions& options) {
  const std::string folder = find_model_folder(options.clip_model);
  const auto clip = models::load_clip_score(folder, options.pipeline.device);
  const auto tokenizer = text::Tokenizer::load(folder);
  if (tokenizer.vocab_size() > clip->vocab_size())
    throw core::DataError(
        fmt::format("{}: the tokenizer gives ids that the model has no embedding of", folder));
  const auto rank = static_cast<std::size_t>(context.world.rank()),
             ranks = static_cast<std::size_t>(context.world.size());
  std::string lines;
  text::Encoding encoding;
  for (std::size_t i = rank; i < members.size(); i += ranks) {
    const bool alone = (i == 0 || members[i - 1].prompt_row != members[i].prompt_row) &&
                       (i + 1 == members.size() || members[i + 1].prompt_row != members[i].prompt_row);
    if (alone) continue;
    context.step(fmt::format("CLIP score of picture {}", i));
    const auto image = read_picture(context.run.file(members[i].file));
    tokenizer.encode(members[i].prompt, clip->max_tokens(), encoding);
    const double score =
        clip->score({.width = image.width, .height = image.height, .rgb = image.pixels}, encoding.ids);
    lines += fmt::format("{} {}\n", i, score);
  }
  return lines;
}

void take_scores(const std::string& lines, std::vector<PairMember>& members) {
  for (const auto& line : core::split(lines, '\n')) {
    const auto space = line.find(' ');
    if (space == std::string::npos) continue;
    members.at(std::stoull(line)).clip_score = std::stod(line.substr(space + 1));
  }
}

}  // namespace

std::vector<std::pair<std::size_t, std::size_t>> pairs_of(const std::vector<PairMember>& members) {
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t first = 0; first < members.size();) {
    std::size_t last = first + 1;
    while (last < members.size() && members[last].prompt_row == members[first].prompt_row) ++last;
    for (std::size_t b = first + 1; b < last; ++b)
      for (std::size_t a = first; a < b; ++a) pairs.emplace_back(a, b);
    first = last;
  }
  return pairs;
}

std::string preference_pairs(const std::vector<PairMember>& members, PairsFormat format) {
  const bool scored = std::any_of(members.begin(), members.end(),
                                  [](const PairMember& m) { return m.clip_score.has_value(); });
  const bool csv = format == PairsFormat::kCsv;
  std::string out;
  if (csv)
    out = fmt::format("prompt,image_a,image_b,seed_a,seed_b{}\n", scored ? ",clip_score_a,clip_score_b" : "");
  const auto score = [](const PairMember& member) {
    return member.clip_score ? fmt::format("{:.6f}", *member.clip_score) : std::string("null");
  };
  for (const auto& [first, second] : pairs_of(members)) {
    const auto &a = members[first], &b = members[second];
    if (csv) {
      out += fmt::format("{},{},{},{},{}", formats::csv_field(a.prompt), a.file, b.file, a.seed, b.seed);
      if (scored) out += fmt::format(",{},{}", score(a), score(b));
      out += "\n";
      continue;
    }
    out += fmt::format(R"({{"prompt":{},"image_a":"{}","image_b":"{}","seed_a":{},"seed_b":{})",
                       core::json_quote(a.prompt), a.file, b.file, a.seed, b.seed);
    if (scored) out += fmt::format(R"(,"clip_score_a":{},"clip_score_b":{})", score(a), score(b));
    out += "}\n";
  }
  return out;
}

std::string write_pairs(PublishContext& context, const PublishedPictures& pictures,
                        const SampleOptions& options) {
  const std::string name =
      options.pairs == PairsFormat::kCsv ? "preference_pairs.csv" : "preference_pairs.jsonl";
  std::vector<PairMember> members;
  std::string scores;
  comm::collectively(context.world, [&] {
    members = members_of(context, pictures);
    if (!options.clip_model.empty()) scores = score_share(context, members, options);
  });
  const auto all = context.world.gather_strings(scores);
  comm::collectively(context.world, [&] {
    if (!context.world.is_root()) return;
    for (const auto& share : all) take_scores(share, members);
    if (!members.empty() && pairs_of(members).empty())
      core::log::warning("{} has no pair: no prompt has two pictures; --count 2 draws them",
                         context.run.file(name));
    core::publish_text(context.run.file(name), preference_pairs(members, options.pairs));
  });
  return name;
}

}  // namespace muster::phases
