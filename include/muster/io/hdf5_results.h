// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "muster/comm/communicator.h"
#include "muster/formats/item_source.h"

namespace muster::io {

enum class H5Type : std::uint8_t { kF32, kF16, kI32, kU8, kU64 };
std::size_t h5_type_bytes(H5Type type);

/// A fixed-size dataset of a result file: `rows` x `columns` (columns 0: one-dimensional).
struct H5Dataset {
  std::string name;  ///< "/embeddings"
  H5Type type = H5Type::kF32;
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
};
using H5Attribute = std::variant<std::string, std::int64_t, double>;

struct H5FileSpec {
  std::string path;                                ///< final name; written as path + ".tmp" first
  std::vector<H5Dataset> datasets;                 ///< contiguous, allocated early, never filled
  std::map<std::string, H5Attribute> attributes;   ///< on the root group
  /// Rank 0: the next string of /ids, called `ids_rows` times; empty function: no /ids.
  std::function<std::string()> next_id;
  std::uint64_t ids_rows = 0;
  /// When not empty: a file on the shared file system that the first rank to fail in the parallel part creates, so that the
  /// cause is logged once (comm::claim_once). Empty: every failing rank logs.
  std::string failure_claim;
};

/// Writes this rank's rows, any part of them in any call; ranks need not call equally often, or at all.
class H5RowWriter {
 public:
  virtual ~H5RowWriter() = default;
  /// `columns_data[d]` holds the rows [first_row, first_row + rows) of dataset d, without gaps.
  virtual void write(std::uint64_t first_row, std::uint64_t rows, std::span<const std::span<const std::byte>> columns_data) = 0;
};

/// Collective. Rank 0 creates the file, writes attributes and /ids through the serial driver, closes it, reserves its final size
/// (posix_fallocate) and the ranks agree on that; then every rank opens it through MPI-IO and `fill` writes its rows; close; rank 0
/// reopens it serially, checks shapes, syncs and renames. Throws OutputError on all ranks when the disk is full before the parallel part.
/// A failure inside the parallel part cannot be undone: the cause is logged, the temporary is removed and the job is
/// aborted with code 7 (no close, no MPI_Finalize).
void write_h5(const H5FileSpec& spec, comm::Communicator& world, const std::function<void(H5RowWriter&)>& fill);

/// A result file that one rank writes alone, through the serial driver: small tables, and tensors by name. Nothing has the final
/// name before finish(). OutputError when the disk refuses.
class H5SerialFile {
 public:
  explicit H5SerialFile(const std::string& path);  ///< writes path + ".tmp"
  ~H5SerialFile();                                 ///< removes an unfinished one
  H5SerialFile(const H5SerialFile&) = delete;
  H5SerialFile& operator=(const H5SerialFile&) = delete;
  void attributes(const std::map<std::string, H5Attribute>& attributes);
  void dataset(const H5Dataset& dataset, std::span<const std::byte> rows);
  void strings(const std::string& name, std::span<const std::string> values);
  /// float32 of any shape as GROUP/h5_link_name(name), with the name itself in the attribute `id`.
  void tensor(const std::string& group, const std::string& name, std::span<const std::uint64_t> shape, std::span<const float> values);
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};
/// Any text as the name of one object: % and / become %25 and %2F, a name of dots alone has them as %2E, and what is longer than 200
/// bytes then is cut and ends with its SHA-256, so that two names never become one.
std::string h5_link_name(const std::string& name);

/// Embeddings for `search` and `--redo`: serial, read-only, never starts MPI.
class H5Reader {
 public:
  explicit H5Reader(const std::string& path);  ///< DataError when it cannot be opened
  ~H5Reader();
  std::vector<std::uint64_t> shape(const std::string& dataset) const;
  H5Type type(const std::string& dataset) const;
  /// Rows converted to float (fp16 widened).
  std::vector<float> read_rows(const std::string& dataset, std::uint64_t first, std::uint64_t rows) const;
  std::vector<std::int32_t> read_i32(const std::string& dataset, std::uint64_t first, std::uint64_t rows) const;
  std::vector<std::uint8_t> read_u8(const std::string& dataset, std::uint64_t first, std::uint64_t rows) const;
  std::vector<std::uint64_t> read_u64(const std::string& dataset, std::uint64_t first, std::uint64_t rows) const;
  std::vector<float> read_tensor(const std::string& dataset) const;  ///< float32 of any shape, as one list
  std::vector<std::string> read_strings(const std::string& dataset, std::uint64_t first, std::uint64_t rows) const;
  std::map<std::string, H5Attribute> attributes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Any input: formats' text sources, or an HDF5 file with string datasets `text_column` and optionally `id_column`.
/// HDF5 is read in a child process, because a damaged .h5 can crash the library.
std::unique_ptr<formats::ItemSource> open_items(const formats::InputConfig& config);

std::string hdf5_version();

}  // namespace muster::io
