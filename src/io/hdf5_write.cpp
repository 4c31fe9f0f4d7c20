// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "io/hdf5_writer.h"
#include "muster/comm/mpi_handle.h"
#include "muster/comm/session.h"
#include "muster/comm/watchdog.h"
#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/fault.h"
#include "muster/core/file.h"
#include "muster/core/log.h"

namespace muster::io {
namespace h5 {
namespace {

constexpr std::uint64_t kBytesAtOnce = std::uint64_t{64} << 20;

std::uint64_t row_bytes(const H5Dataset& dataset) {
  return std::max<std::uint64_t>(dataset.columns, 1) * h5_type_bytes(dataset.type);
}

}  // namespace

Properties shared_access(comm::Communicator& world) {
  auto list = serial_access();
  if (world.size() == 1) return list;
  const auto* handle = static_cast<const MPI_Comm*>(comm::mpi_handle(world));
  core::internal_check(handle != nullptr, "several ranks write HDF5 through an MPI communicator");
  if (H5Pset_fapl_mpio(list.get(), *handle, MPI_INFO_NULL) < 0) {
    throw core::CommError("HDF5 refuses MPI-IO: " + error_text());
  }
  // One rank reads the metadata and tells the others, instead of thousands reading the same bytes.
  H5Pset_all_coll_metadata_ops(list.get(), true);
  return list;
}

void abandon_parallel_write(const H5FileSpec& spec, const std::string& temporary,
                            const std::string& problem) {
  if (spec.failure_claim.empty() || comm::claim_once(spec.failure_claim)) {
    core::log::error(
        "{}; the unfinished file is removed and the job ends; what was computed is safe: run the same "
        "command again",
        problem);
  }
  ::unlink(temporary.c_str());
  comm::Session::abort(static_cast<int>(core::ExitCode::kOutput));
}

SharedResultFile::SharedResultFile(const H5FileSpec& spec, const std::string& path, comm::Communicator& world)
    : spec_(spec), path_(path), ranks_(world.size()) {
  const auto access = shared_access(world);
  file_ = File(H5Fopen(path.c_str(), H5F_ACC_RDWR, access.get()));
  if (!file_) fail("cannot open " + path);
  for (const auto& wanted : spec.datasets) {
    datasets_.emplace_back(H5Dopen2(file_.get(), wanted.name.c_str(), H5P_DEFAULT));
    if (!datasets_.back()) fail("cannot open dataset " + wanted.name + " of " + path);
  }
}

void SharedResultFile::fail(const std::string& what) {
  const auto problem = fmt::format("{}: {} ({} free there)", what, error_text(),
                                   core::human_bytes(static_cast<double>(core::free_disk_bytes(path_))));
  if (ranks_ == 1) {
    let_go_of_disk(file_.get());
    throw core::OutputError(problem + "; see that there is space and run the same command again");
  }
  abandon_parallel_write(spec_, path_, problem);
}

void SharedResultFile::write(std::uint64_t first_row, std::uint64_t rows,
                             std::span<const std::span<const std::byte>> columns_data) {
  core::internal_check(columns_data.size() == datasets_.size(), "one span of rows for each dataset");
  for (std::size_t d = 0; d < datasets_.size(); ++d) {
    const auto bytes = row_bytes(spec_.datasets[d]);
    const auto total = spec_.datasets[d].rows;
    core::internal_check(
        columns_data[d].size() == rows * bytes && first_row <= total && rows <= total - first_row,
        "rows written lie within the dataset");
    const auto at_once = std::max<std::uint64_t>(kBytesAtOnce / bytes, 1);
    for (std::uint64_t done = 0; done < rows; done += at_once) {
      write_part(d, first_row + done, std::min(at_once, rows - done), columns_data[d].data() + done * bytes);
    }
  }
}

// Each rank on its own (independent transfer): contiguous blocks of whole rows leave nothing for a collective
// to merge, and ranks with fewer rows need not keep in step.
void SharedResultFile::write_part(std::size_t dataset, std::uint64_t first_row, std::uint64_t rows,
                                  const std::byte* data) {
  const auto& wanted = spec_.datasets[dataset];
  const auto type = file_type(wanted.type);
  const auto memory = simple_space(rows, wanted.columns);
  const auto selection = selected_rows(datasets_[dataset].get(), first_row, rows);
  const bool planted = core::fault_point("publish.h5_write");
  if (planted || !selection ||
      H5Dwrite(datasets_[dataset].get(), type.get(), memory.get(), selection.get(), H5P_DEFAULT, data) < 0) {
    fail(fmt::format("cannot write rows {} to {} of {} in {}", first_row, first_row + rows, wanted.name,
                     path_));
  }
}

void SharedResultFile::close() {
  for (auto& dataset : datasets_) {
    if (dataset.close() < 0) fail("cannot close a dataset of " + path_);
  }
  datasets_.clear();
  if (H5Fflush(file_.get(), H5F_SCOPE_GLOBAL) < 0) fail("cannot flush " + path_);
  if (file_.close() < 0) fail("cannot close " + path_);
}

}  // namespace h5

namespace {

/// Removes the temporary file when `work` ends with an error, which is then one that all ranks survive and
/// throw.
void with_removal(comm::Communicator& world, const std::string& temporary,
                  const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception&) {
    if (world.is_root()) ::unlink(temporary.c_str());
    throw;
  }
}

void collectively_or_remove(comm::Communicator& world, const std::string& temporary,
                            const std::function<void()>& work) {
  with_removal(world, temporary, [&] { comm::collectively(world, work); });
}

void fill_together(const H5FileSpec& spec, const std::string& temporary, comm::Communicator& world,
                   const std::function<void(H5RowWriter&)>& fill) {
  h5::SharedResultFile file(spec, temporary, world);
  std::exception_ptr failure;
  try {
    comm::collectively(world, [&] { fill(file); });
  } catch (const std::exception&) {
    // An error of the caller's own (a damaged record, say) leaves MPI-IO sound: all ranks have agreed on it
    // and close.
    failure = std::current_exception();
  }
  file.close();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

void write_h5(const H5FileSpec& spec, comm::Communicator& world,
              const std::function<void(H5RowWriter&)>& fill) {
  const std::string temporary = spec.path + ".tmp";
  h5::start_library();
  collectively_or_remove(world, temporary, [&] {
    if (world.is_root()) h5::create_result_file(spec, temporary);
  });
  core::fault_point("publish.h5_created");
  with_removal(world, temporary, [&] { fill_together(spec, temporary, world, fill); });
  core::fault_point("publish.h5_closed");
  // What a rank wrote may still be in its own host's cache.
  collectively_or_remove(world, temporary,
                         [&] { core::sync(core::open_for_reading(temporary).get(), temporary); });
  collectively_or_remove(world, temporary, [&] {
    if (!world.is_root()) return;
    h5::check_result_file(spec, temporary);
    core::publish_file(temporary, spec.path);
  });
}

}  // namespace muster::io
