// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "muster/phases/item_phase.h"

namespace muster::phases {

/// Byte strings in which items travel between ranks. All numbers are in the byte order of the machine: ranks
/// of a job run the same program on the same kind of machine.

/// A source text on its way to the rank that prepares it.
struct TextView {
  std::uint64_t row = 0;
  std::string_view text;
};
void pack_text(std::string& blob, std::uint64_t row, std::string_view text);
std::vector<TextView> unpack_texts(const std::string& blob);

/// A prepared item on its way to rank 0 and on to its worker.
void pack_item(std::string& blob, std::uint64_t row, const PreparedItem& item);
void pack_item(std::string& blob, const ItemView& item);
std::vector<ItemView> unpack_items(const std::string& blob);

/// A micro-batch with the memory that its items point into.
struct Batch {
  std::uint64_t number = 0;  ///< within the job's start, for messages
  std::string blob;
  std::vector<ItemView> items;
};
/// Appends one batch to a rank's share of a window / takes them apart again.
void pack_batch(std::string& blob, std::uint64_t number, const std::string& items);
std::vector<Batch> unpack_batches(const std::string& blob);

}  // namespace muster::phases
