// SPDX-License-Identifier: Apache-2.0
#include "fuzz/encoding_checks.h"
#include "fuzz/support.h"
#include "fuzz/targets.h"

namespace muster::fuzz {

/// A vocab.json and, each behind a NUL byte, a merges.txt and the files that may stand beside them.
void clip_vocabulary(std::string_view bytes) {
  const Folder folder;
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
                           "added_tokens.json"}) {
    const auto [content, rest] = cut(bytes, '\0');
    folder.write(name, content);
    const bool last = content.size() == bytes.size();
    bytes = rest;
    if (last) break;
  }
  const auto tokenizer = unless<core::DataError>([&] { return text::Tokenizer::load(folder.path()); });
  if (tokenizer) check_hard_texts(*tokenizer);
}

}  // namespace muster::fuzz
