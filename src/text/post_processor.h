// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "muster/formats/json.h"

namespace muster::text {

/// The "post_processor" section, as far as it concerns a single text: the special tokens around it.
class PostProcessor {
 public:
  PostProcessor() = default;
  PostProcessor(std::vector<std::uint32_t> before, std::vector<std::uint32_t> after)
      : before_(std::move(before)), after_(std::move(after)) {}
  static PostProcessor from_json(const formats::JsonValue& section);  ///< the section may be null

  const std::vector<std::uint32_t>& before() const { return before_; }
  const std::vector<std::uint32_t>& after() const { return after_; }
  std::size_t size() const { return before_.size() + after_.size(); }

 private:
  void add(const formats::JsonValue& section);
  void add_template(const formats::JsonValue& section);

  std::vector<std::uint32_t> before_, after_;
};

}  // namespace muster::text
