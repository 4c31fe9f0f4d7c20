// SPDX-License-Identifier: Apache-2.0
// A folder with vocab.json and merges.txt of a CLIPTokenizer.
#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <span>

#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "text/byte_pair.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_impl.h"

namespace muster::text {
namespace {

/// What transformers 5 makes of these files, in the words of a tokenizer.json.
constexpr std::string_view kSections = R"({
  "normalizer": {"type": "Sequence", "normalizers": [
    {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]},
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
    {"type": "Split", "behavior": "Removed", "invert": true, "pattern": {"Regex":
      "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"}},
    {"type": "ByteLevel", "add_prefix_space": false}]}
})";

/// Tokens on their way into a tokenizer. Those that the vocabulary lacks get the ids behind it.
class TokenCollector {
 public:
  explicit TokenCollector(const Vocabulary& vocabulary)
      : vocabulary_(vocabulary), next_id_(static_cast<std::uint32_t>(vocabulary.size())) {}

  /// Of tokens that are given a role or none, the last of equal ones counts, but none before those of the
  /// list of added tokens, as in the reference.
  enum class Source : std::uint8_t { kList, kOther };
  std::uint32_t add(const DeclaredToken& declared, Source source) {
    const std::string& content = declared.token.content;
    if (content.empty()) declared.at->fail("is an empty token");
    if (const auto known = places_.find(content); known != places_.end()) {
      AddedToken& token = tokens_[known->second];
      const std::uint32_t id = token.id;
      if (known->second >= listed_) {
        token = declared.token;
        token.id = id;
      }
      return id;
    }
    const auto in_vocabulary = vocabulary_.find(content);
    const std::uint32_t id = in_vocabulary ? *in_vocabulary : next_id_++;
    if (declared.id && *declared.id != id) {
      declared.at->fail(fmt::format("gives '{}' the id {}, but {} {}; is this the vocabulary of this model?",
                                    core::printable(content), *declared.id,
                                    in_vocabulary ? "the vocabulary says" : "the next free id is", id));
    }
    places_.emplace(content, tokens_.size());
    tokens_.push_back(declared.token);
    tokens_.back().id = id;
    if (source == Source::kList) listed_ = tokens_.size();
    return id;
  }

  AddedTokens finish(const Normalizer& normalizer) {
    AddedTokens out;
    for (AddedToken& token : tokens_) out.add(std::move(token), normalizer);
    return out;
  }

 private:
  const Vocabulary& vocabulary_;
  std::uint32_t next_id_;
  std::vector<AddedToken> tokens_;
  std::size_t listed_ = 0;  ///< those of the list come first
  std::map<std::string, std::size_t> places_;
};

struct Role {
  const char* key;
  const char* usual;  ///< null: there need not be one
};
constexpr const char* kEnd = "<|endoftext|>";
// In the order in which the reference adds them.
constexpr Role kRoles[] = {{"bos_token", "<|startoftext|>"}, {"eos_token", kEnd}, {"unk_token", kEnd},
                           {"sep_token", nullptr},           {"pad_token", kEnd}, {"cls_token", nullptr},
                           {"mask_token", nullptr}};

}  // namespace

std::unique_ptr<Tokenizer::Impl> Tokenizer::Impl::from_clip_vocabulary(const std::string& folder) {
  const std::filesystem::path path(folder);
  const TokenizerConfig config(folder);
  config.expect_class("CLIPTokenizer");
  config.expect_flag("split_special_tokens", false);
  config.expect_flag("add_bos_token", true);
  config.expect_flag("add_eos_token", true);
  const std::string vocabulary_path = (path / "vocab.json").string();
  Vocabulary vocabulary = vocabulary_from_json(formats::read_json(vocabulary_path));

  BytePairOptions options;
  options.end_of_word_suffix = "</w>";
  for (const Role& role : std::span(kRoles).first(3)) {  // the others may be added
    const std::string content = config.token(role.key, role.usual).token.content;
    options.unknown_id = vocabulary.find(content);
    if (!options.unknown_id)
      throw core::DataError(fmt::format("{}: has no '{}', which every CLIPTokenizer needs ({})",
                                        vocabulary_path, core::printable(content), role.key));
  }

  auto out = std::make_unique<Impl>();
  const auto sections = formats::parse_json(kSections, "CLIPTokenizer");
  out->normalizer = Normalizer::from_json(sections.at("normalizer"));
  out->pre_tokenizer = PreTokenizer::from_json(sections.at("pre_tokenizer"));
  MergeTable merges = merges_from_text((path / "merges.txt").string(), vocabulary);
  out->model = std::make_unique<BytePair>(std::move(vocabulary), std::move(options), std::move(merges));

  using Source = TokenCollector::Source;
  TokenCollector tokens(out->model->vocabulary());
  for (const auto& token : config.added_tokens()) tokens.add(token, Source::kList);
  std::map<std::string_view, std::uint32_t> ids;
  for (const Role& role : kRoles) {
    const auto token = role.usual ? config.token(role.key, role.usual) : config.token(role.key);
    if (token) ids[role.key] = tokens.add(*token, Source::kOther);
  }
  for (const auto& token : config.extra_tokens()) tokens.add(token, Source::kOther);
  out->added_tokens = tokens.finish(out->normalizer);
  out->post_processor = PostProcessor({ids.at("bos_token")}, {ids.at("eos_token")});
  out->pad_id = ids.at("pad_token");
  return out;
}

}  // namespace muster::text
