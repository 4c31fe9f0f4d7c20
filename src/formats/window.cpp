// SPDX-License-Identifier: Apache-2.0
#include "formats/window.h"

#include <algorithm>
#include <cstring>

namespace muster::formats {

bool Window::grow() {
  const std::size_t kept = size();
  if (capacity_ - end_ < kBlockBytes) {
    if (kept + kBlockBytes <= capacity_) {
      std::memmove(buffer_.get(), buffer_.get() + begin_, kept);
    } else {
      // Doubling, so that a long row is copied a constant number of times.
      const std::size_t capacity = std::max(2 * kBlockBytes, kept + std::max(kept, kBlockBytes));
      auto larger = std::make_unique_for_overwrite<char[]>(capacity);
      if (kept > 0) std::memcpy(larger.get(), buffer_.get() + begin_, kept);
      buffer_ = std::move(larger);
      capacity_ = capacity;
    }
    begin_ = 0;
    end_ = kept;
  }
  const std::size_t n = source_->read({buffer_.get() + end_, kBlockBytes});
  end_ += n;
  return n > 0;
}

void Window::skip_line() {
  do {
    const auto newline = view().find('\n');
    if (newline != std::string_view::npos) return consume(newline + 1);
    consume(size());
  } while (grow());
}

void Window::start() {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  while (size() < kBlockBytes && grow()) {
  }
  if (view().starts_with(kByteOrderMark)) consume(kByteOrderMark.size());
}

}  // namespace muster::formats
