// SPDX-License-Identifier: Apache-2.0
#include "fuzz/encoding_checks.h"
#include "fuzz/support.h"
#include "fuzz/targets.h"

namespace muster::fuzz {

/// Any bytes as a tokenizer.json: what loads encodes any text.
void tokenizer_json(std::string_view bytes) {
  const Folder folder;
  folder.write("tokenizer.json", bytes);
  const auto tokenizer = unless<core::DataError>([&] { return text::Tokenizer::load(folder.path()); });
  if (tokenizer) check_hard_texts(*tokenizer);
}

}  // namespace muster::fuzz
