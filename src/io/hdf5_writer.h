// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <hdf5.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/hdf5_handles.h"
#include "muster/comm/communicator.h"
#include "muster/io/hdf5_results.h"

namespace muster::io::h5 {

/// Serial part, one rank: everything but the rows. The file is closed and has its final size on disk
/// afterwards.
void create_result_file(const H5FileSpec& spec, const std::string& path);
/// Serial part, one rank: the file opens and has the shapes, types and number of ids it should.
void check_result_file(const H5FileSpec& spec, const std::string& path);

/// An access list for all ranks of `world` together: MPI-IO, or the serial driver when there is but one rank.
Properties shared_access(comm::Communicator& world);

/// Logs `problem`, removes `temporary` and ends every rank with code 7.
[[noreturn]] void abandon_parallel_write(const H5FileSpec& spec, const std::string& temporary,
                                         const std::string& problem);

/// The open result file of all ranks.
class SharedResultFile final : public H5RowWriter {
 public:
  /// Collective.
  SharedResultFile(const H5FileSpec& spec, const std::string& path, comm::Communicator& world);
  void write(std::uint64_t first_row, std::uint64_t rows,
             std::span<const std::span<const std::byte>> columns_data) override;
  /// Collective.
  void close();

 private:
  void write_part(std::size_t dataset, std::uint64_t first_row, std::uint64_t rows, const std::byte* data);
  [[noreturn]] void fail(const std::string& what);

  const H5FileSpec& spec_;
  std::string path_;
  int ranks_;
  File file_;
  std::vector<Dataset> datasets_;  // closed before the file
};

}  // namespace muster::io::h5
