// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/pre_tokenizer.h"

namespace muster::text {

/// GPT-2's word pattern, as it stands in files that spell it out.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// CLIP's, behind what its lower-casing leaves of its two special tokens. transformers 4 wrote it without
/// these.
inline constexpr std::string_view kClipPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
inline constexpr std::string_view kClipPatternWithTokens =
    R"(<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";

/// BERT's words: white space removed, each punctuation character on its own.
void split_bert(std::string_view text, Piece piece, std::vector<Piece>& out);

/// The following cover the piece with matches and what lies between them.
/// Every single character of one of the classes.
void match_chars(std::string_view text, Piece piece, unsigned classes, std::vector<Match>& out);
/// \w+|[^\w\s]+
void match_word_runs(std::string_view text, Piece piece, std::vector<Match>& out);
/// kGpt2Pattern; nothing lies between its matches.
void match_gpt2(std::string_view text, Piece piece, std::vector<Match>& out);
/// kClipPattern, with or without the special tokens; white space lies between its matches.
enum class ClipTokens : std::uint8_t { kAsText, kAsWords };
void match_clip(std::string_view text, Piece piece, ClipTokens tokens, std::vector<Match>& out);
void match_literal(std::string_view text, Piece piece, std::string_view literal, std::vector<Match>& out);

/// Puts a space in front of every piece that has none; returns the new text.
std::string_view prefix_spaces(std::string_view text, PreTokenizerScratch& scratch);
/// Writes each byte as GPT-2's printable character for it; returns the new text.
std::string_view map_bytes(std::string_view text, PreTokenizerScratch& scratch);

}  // namespace muster::text
