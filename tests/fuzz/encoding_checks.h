// SPDX-License-Identifier: Apache-2.0
// What must hold of any tokenizer and any text.
#pragma once
#include <string_view>

#include "muster/text/tokenizer.h"

namespace muster::fuzz {

/// Encodes `text` whole and cut to `max_length`: ids exist, the cut ones begin as the whole ones and keep the
/// special tokens, and a second time gives the same.
void check_encoding(const text::Tokenizer& tokenizer, std::string_view text, std::uint32_t max_length);

/// check_encoding of some short texts that normalizers and splitters find hard.
void check_hard_texts(const text::Tokenizer& tokenizer);

}  // namespace muster::fuzz
