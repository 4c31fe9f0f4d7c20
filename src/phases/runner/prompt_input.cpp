// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/prompt_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/strings.h"

namespace muster::phases {
namespace {

bool names_a_file(const std::string& word) {
  std::error_code ignored;
  if (word.find('\0') != std::string::npos) return false;
  if (std::filesystem::is_regular_file(word, ignored)) return true;
  if (word.find_first_of("*?[") == std::string::npos) return false;
  try {
    return !formats::expand_input_paths({word}).empty();
  } catch (const core::DataError&) {
    return false;  // a prompt with a question mark, say
  }
}

/// A misspelt file must not be drawn.
bool looks_like_a_file(const std::string& word) {
  if (word.find(' ') != std::string::npos) return false;
  try {
    formats::input_format_of_path(word);
    return true;
  } catch (const core::ConfigError&) {
    return false;
  }
}

}  // namespace

PromptWords kind_of_prompts(const std::vector<std::string>& words) {
  const auto files = std::count_if(words.begin(), words.end(), names_a_file);
  if (static_cast<std::size_t>(files) == words.size()) return PromptWords::kFiles;
  for (const auto& word : words) {
    if (!names_a_file(word) && looks_like_a_file(word))
      throw core::DataError(fmt::format("the prompt file {} does not exist", core::printable(word)));
  }
  if (files == 0) return PromptWords::kTexts;
  throw core::ConfigError(fmt::format(
      "of {} words behind --prompts {} are files; give files or prompts, not both", words.size(), files));
}

void add_prompts(const config::Config& config, formats::InputConfig& input) {
  const auto words = config.strings(kPromptsKey);
  if (words.empty() == input.paths.empty()) {
    throw core::ConfigError(
        words.empty() ? "there are no prompts: give --prompts FILE or --prompts TEXT... (input.prompts)"
                      : "both input.prompts and input.path are given; one of them holds the prompts");
  }
  input.prompts = formats::PromptInput{.count = static_cast<std::uint32_t>(config.integer(kCountKey))};
  if (words.empty()) return;
  if (kind_of_prompts(words) == PromptWords::kFiles) {
    input.paths = words;
  } else {
    input.texts = words;
    input.id_prefixes.clear();
  }
}

}  // namespace muster::phases
