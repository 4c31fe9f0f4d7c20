// SPDX-License-Identifier: Apache-2.0
#include "io/json_text.h"

#include "muster/core/strings.h"
#include "muster/formats/utf8.h"

namespace muster::io {

std::string json_text(std::string_view text) {
  std::string valid;
  formats::assign_utf8_replaced(text, valid);
  return core::json_quote(valid);
}

}  // namespace muster::io
