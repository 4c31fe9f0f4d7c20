// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"
#include "muster/formats/json.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_impl.h"
#include "text/word_piece.h"

namespace muster::text {

namespace {

/// A section that may be absent or null.
template <class Part>
Part part_from(const formats::JsonValue& root, std::string_view key) {
  const auto section = root.find(key);
  return section ? Part::from_json(*section) : Part{};
}

void check_special_ids(const formats::JsonValue& root, const std::vector<std::uint32_t>& ids,
                       const auto& token_of) {
  for (const std::uint32_t id : ids) {
    if (!token_of(id))
      root.at("post_processor").fail(fmt::format("adds the token id {}, which does not exist", id));
  }
}

Vocabulary vocabulary_from_lines(const std::string& path) {
  constexpr std::uint64_t kMaxBytes = std::uint64_t{64} << 20;
  const std::string content = core::read_file(path, kMaxBytes);
  auto lines = core::split(content, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  Vocabulary out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::string_view line = lines[i];
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty())
      throw core::DataError(fmt::format("{}:{}: empty line; every line is one token", path, i + 1));
    const std::string problem = out.add(line, static_cast<std::uint32_t>(i));
    if (!problem.empty())
      throw core::DataError(fmt::format("{}:{}: the vocabulary {}", path, i + 1, problem));
  }
  const std::string problem = out.seal();
  if (!problem.empty()) throw core::DataError(fmt::format("{}: the vocabulary {}", path, problem));
  return out;
}

/// The id of the pad token that the files beside a tokenizer.json name.
std::optional<std::uint32_t> pad_id_of(const std::string& folder, const AddedTokens& added,
                                       const Vocabulary& vocabulary) {
  const auto declared = TokenizerConfig(folder).token("pad_token");
  if (!declared) return std::nullopt;
  const auto id = added.find(declared->token.content);
  return id ? id : vocabulary.find(declared->token.content);
}

}  // namespace

Tokenizer Tokenizer::load(const std::string& folder) {
  namespace fs = std::filesystem;
  const auto has = [&](const char* name) { return fs::exists(fs::path(folder) / name); };
  if (has("tokenizer.json")) return Tokenizer(Impl::from_tokenizer_json(folder));
  if (has("vocab.txt")) return Tokenizer(Impl::from_bert_vocabulary(folder));
  if (has("vocab.json") && has("merges.txt")) return Tokenizer(Impl::from_clip_vocabulary(folder));
  throw core::DataError(fmt::format(
      "{}: has neither tokenizer.json nor vocab.txt, nor vocab.json with merges.txt; is this the folder of a "
      "Hugging Face model?",
      folder));
}

std::unique_ptr<Tokenizer::Impl> Tokenizer::Impl::from_tokenizer_json(const std::string& folder) {
  const auto root = formats::read_json((std::filesystem::path(folder) / "tokenizer.json").string());
  if (!root.is_object()) root.fail("is not a tokenizer");
  if (const auto version = root.find("version"); version && version->view() != "1.0") {
    version->fail(fmt::format("is '{}', only 1.0 is known", core::printable(version->view())));
  }
  auto out = std::make_unique<Impl>();
  out->normalizer = part_from<Normalizer>(root, "normalizer");
  out->pre_tokenizer = part_from<PreTokenizer>(root, "pre_tokenizer");
  out->model = model_from_json(root.at("model"));
  if (const auto added = root.find("added_tokens"); added && !added->is_null()) {
    out->added_tokens = AddedTokens::from_json(*added, out->model->vocabulary(), out->normalizer);
  }
  out->post_processor = part_from<PostProcessor>(root, "post_processor");
  const auto token_of = [&](std::uint32_t id) { return out->token(id); };
  check_special_ids(root, out->post_processor.before(), token_of);
  check_special_ids(root, out->post_processor.after(), token_of);
  out->pad_id = pad_id_of(folder, out->added_tokens, out->model->vocabulary());
  return out;
}

std::unique_ptr<Tokenizer::Impl> Tokenizer::Impl::from_bert_vocabulary(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "vocab.txt").string();
  const TokenizerConfig config(folder);
  config.expect_class("BertTokenizer");
  config.expect_flag("do_basic_tokenize", true);
  Vocabulary vocabulary = vocabulary_from_lines(path);
  const auto id_of = [&](const std::string& token) {
    const auto id = vocabulary.find(token);
    if (!id)
      throw core::DataError(
          fmt::format("{}: has no '{}', which every text needs", path, core::printable(token)));
    return *id;
  };
  auto out = std::make_unique<Impl>();
  BertNormalizerOptions normalizer;
  normalizer.handle_chinese_chars = config.flag("tokenize_chinese_chars", true);
  normalizer.lowercase = config.flag("do_lower_case", true);
  normalizer.strip_accents = config.optional_flag("strip_accents");
  out->normalizer = Normalizer::from_options(normalizer);
  out->pre_tokenizer = PreTokenizer::words_and_punctuation();
  WordPieceOptions model;
  const auto token = [&](std::string_view key, std::string_view fallback) {
    return config.token(key, fallback).token.content;
  };
  model.unknown = token("unk_token", "[UNK]");
  const std::string cls = token("cls_token", "[CLS]"), sep = token("sep_token", "[SEP]");
  const std::string pad = token("pad_token", "[PAD]");
  out->post_processor = PostProcessor({id_of(cls)}, {id_of(sep)});
  for (const auto& content : {model.unknown, cls, sep, pad, token("mask_token", "[MASK]")}) {
    const auto id = vocabulary.find(content);  // encoders without a mask token exist
    if (id) out->added_tokens.add({.content = content, .id = *id}, out->normalizer);
  }
  out->pad_id = vocabulary.find(pad);
  const std::uint32_t unknown_id = id_of(model.unknown);
  out->model = std::make_unique<WordPiece>(std::move(vocabulary), model, unknown_id);
  return out;
}

}  // namespace muster::text
