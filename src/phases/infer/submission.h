// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/core/digest.h"
#include "phases/infer/infer_options.h"

namespace muster::phases {

/// Which ids, in which order.
struct IdDigest {
  std::uint64_t count = 0;
  std::string sha256;
  bool operator==(const IdDigest&) const = default;
};
class IdDigester {
 public:
  void add(std::string_view id);
  IdDigest finish() { return {count_, sha_.finish_hex()}; }

 private:
  std::uint64_t count_ = 0;
  core::Sha256 sha_;
};

struct SubmissionRequest {
  std::string predictions;  ///< a published predictions.h5
  std::string path;
  const SubmissionOptions& options;
  const std::vector<std::string>& class_names;
  IdDigest ids;                                  ///< of the input
  std::function<void(const std::string&)> step;  ///< tells that it goes on
};

/// Writes submission.csv beside its place and reads it back; it gets its name only when row count and every
/// id are those of the input.
void write_submission(const SubmissionRequest& request);

/// ConfigError when class names or their number cannot be written in the style.
void check_submission(const SubmissionOptions& options, const std::vector<std::string>& class_names);

}  // namespace muster::phases
