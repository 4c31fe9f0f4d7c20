// SPDX-License-Identifier: Apache-2.0
#include "fuzz/encoding_checks.h"
#include "fuzz/support.h"
#include "fuzz/targets.h"

namespace muster::fuzz {

/// A vocab.txt, and a tokenizer_config.json where a NUL byte separates one from it.
void bert_vocabulary(std::string_view bytes) {
  const auto [vocabulary, config] = cut(bytes, '\0');
  const Folder folder;
  folder.write("vocab.txt", vocabulary);
  if (vocabulary.size() < bytes.size()) folder.write("tokenizer_config.json", config);
  const auto tokenizer = unless<core::DataError>([&] { return text::Tokenizer::load(folder.path()); });
  if (tokenizer) check_hard_texts(*tokenizer);
}

}  // namespace muster::fuzz
