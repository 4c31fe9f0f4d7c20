// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "muster/config/schema.h"
#include "muster/core/digest.h"
#include "muster/formats/item_source.h"

namespace muster::phases {

/// What one cheap pass over the input tells, before any work.
struct Survey {
  std::uint64_t rows = 0;  ///< accepted items
  std::uint64_t rejected = 0;
  std::uint64_t replaced_utf8 = 0;  ///< items with bytes that became U+FFFD
  std::uint64_t text_bytes = 0;
  std::vector<std::string> remarks;  ///< of the reader, for people
  std::string digest;                ///< SHA-256 over ids and texts of the accepted items, in order
  std::vector<std::uint64_t>
      duplicates;  ///< places, among the rows the reader accepts, of later rows with a known id
};

using RejectSink = std::function<void(const formats::Reject&, const std::vector<std::string>& files)>;

/// Reads the input once: counts, digests, and finds ids that occur twice (the first row keeps the id; later
/// ones are rejected with both line numbers). Memory: 16 bytes an item while it runs.
Survey survey_input(const formats::InputConfig& config, const RejectSink& reject);

/// The accepted items in order, duplicates left out, rows numbered as in every result. DataError, at the
/// latest at the end, when they are not those of the survey: the input changed.
class AcceptedItems {
 public:
  AcceptedItems(const formats::InputConfig& config, const Survey& survey);
  ~AcceptedItems();
  /// False at the end.
  bool next(formats::Item& item);

 private:
  std::unique_ptr<formats::ItemSource> source_;
  const Survey& survey_;
  core::Sha256 digest_;
  std::size_t next_duplicate_ = 0;
  bool ended_ = false;
  std::uint64_t place_ = 0;
  std::uint64_t row_ = 0;
  formats::Reject reject_;
};

/// The input that a config names.
formats::InputConfig input_of(const config::Config& config);

}  // namespace muster::phases
