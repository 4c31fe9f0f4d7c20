// SPDX-License-Identifier: Apache-2.0
#include "io/sealed_text.h"

#include <fmt/format.h>

#include "muster/core/digest.h"

namespace muster::io {
namespace {

std::string seal_of(std::string_view open_object) {
  return fmt::format("\"crc32c\":\"{:08x}\"}}", core::crc32c(open_object));
}
constexpr std::size_t kSealBytes = std::string_view("\"crc32c\":\"00000000\"}").size();

}  // namespace

std::string seal(std::string open_object) {
  const std::string end = seal_of(open_object);
  return std::move(open_object) + end;
}

bool seal_holds(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (text.size() < kSealBytes) return false;
  const auto open_object = text.substr(0, text.size() - kSealBytes);
  return text.substr(open_object.size()) == seal_of(open_object);
}

}  // namespace muster::io
