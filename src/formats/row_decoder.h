// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>

#include "formats/prompt_cells.h"
#include "muster/formats/item_source.h"

namespace muster::formats {

/// Where a file's ids come from.
enum class IdOrigin { kRow, kIndex };

/// The rows of one file as items. Fills everything but `row`, `file` and, for kIndex, `id`.
class RowDecoder {
 public:
  virtual ~RowDecoder() = default;
  virtual RowKind next(Item& item, Reject& reject) = 0;
  virtual IdOrigin id_origin() const = 0;
  /// Of the row that next() gave last, when the rows are prompts; its `row`, `copy` and `id` are the
  /// caller's.
  const DecodedPrompt& prompt() const { return prompt_; }
  virtual std::string remark() const { return ""; }

 protected:
  /// Ends what next() does with a row: `text` is its prompt, when the rows are prompts.
  RowKind accept_prompt(const TableRow& row, RowKind kind, const PromptCells& cells, Item& item,
                        Reject& reject);

 private:
  DecodedPrompt prompt_;
};

/// `format` is a text format, not kAuto. `name` is for messages.
std::unique_ptr<RowDecoder> make_row_decoder(InputFormat format, std::unique_ptr<ByteSource> text,
                                             const std::string& name, const InputConfig& config);
/// The texts themselves, a row each.
std::unique_ptr<RowDecoder> make_inline_decoder(const InputConfig& config);
std::unique_ptr<RowDecoder> make_jsonl_decoder(std::unique_ptr<ByteSource> text, const InputConfig& config);

/// How many rows at the front of a file are looked at to guess what its rows hold.
inline constexpr int kSampledRows = 16;
/// The whole lines at the front of what is buffered.
std::string whole_lines(std::string_view buffered);

/// Sets reject's place and reason.
RowKind reject_row(const TableRow& row, std::string reason, Reject& reject);
/// The rules that all formats share: no NUL in id or text, an id that is whole, text made valid UTF-8. `id`
/// is ignored for kIndex. Returns kItem, or kReject with the reason set.
RowKind accept_row(const TableRow& row, IdOrigin origin, std::string_view id, std::string_view text,
                   Item& item, Reject& reject);

}  // namespace muster::formats
