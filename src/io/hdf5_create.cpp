// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "io/hdf5_writer.h"
#include "muster/core/error.h"
#include "muster/core/fault.h"
#include "muster/core/file.h"
#include "muster/formats/utf8.h"

namespace muster::io::h5 {
namespace {

constexpr std::uint64_t kIdsAtOnce = 10'000;
constexpr const char* kIdsName = "/ids";

/// A string that the file can hold: valid UTF-8, no NUL.
void assign_storable(const std::string& id, std::string& out) {
  formats::assign_utf8_replaced(std::string_view(id).substr(0, id.find('\0')), out);
}

/// No times, so that the same content is the same bytes.
Properties dataset_properties() {
  auto list = properties(H5P_DATASET_CREATE);
  H5Pset_obj_track_times(list.get(), false);
  H5Pset_layout(list.get(), H5D_CONTIGUOUS);
  H5Pset_alloc_time(list.get(), H5D_ALLOC_TIME_EARLY);
  return list;
}

/// The file while rank 0 alone writes it.
class NewResultFile {
 public:
  NewResultFile(const H5FileSpec& spec, const std::string& path);
  void create_fixed_datasets();
  void write_ids();
  void write_attributes();
  void close();

 private:
  Dataset create_dataset(const std::string& name, hid_t type, const Space& space,
                         const Properties& properties);
  void require(bool succeeded, const std::string& what);

  const H5FileSpec& spec_;
  const std::string& path_;
  File file_;
};

NewResultFile::NewResultFile(const H5FileSpec& spec, const std::string& path) : spec_(spec), path_(path) {
  ::unlink(path.c_str());
  auto creation = properties(H5P_FILE_CREATE);
  H5Pset_obj_track_times(creation.get(), false);
  const auto access = serial_access();
  file_ = File(H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation.get(), access.get()));
  if (!file_) throw_output("create", path);
}

void NewResultFile::require(bool succeeded, const std::string& what) {
  if (succeeded) return;
  const auto reason = error_text();
  let_go_of_disk(file_.get());
  throw core::OutputError(fmt::format(
      "cannot {} {}: {}; see that there is space and run the same command again", what, path_, reason));
}

Dataset NewResultFile::create_dataset(const std::string& name, hid_t type, const Space& space,
                                      const Properties& properties) {
  Dataset dataset(
      H5Dcreate2(file_.get(), name.c_str(), type, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT));
  require(static_cast<bool>(dataset), "create dataset " + name + " of");
  return dataset;
}

void NewResultFile::create_fixed_datasets() {
  auto properties = dataset_properties();
  H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER);  // every row is written by some rank
  for (const auto& wanted : spec_.datasets) {
    auto dataset = create_dataset(wanted.name, file_type(wanted.type).get(),
                                  simple_space(wanted.rows, wanted.columns), properties);
    require(dataset.close() >= 0, "close dataset " + wanted.name + " of");
  }
}

void NewResultFile::write_ids() {
  const auto type = string_type();
  auto dataset = create_dataset(kIdsName, type.get(), simple_space(spec_.ids_rows, 0), dataset_properties());
  std::vector<std::string> texts;
  std::vector<const char*> pointers;
  for (std::uint64_t done = 0; done < spec_.ids_rows;) {
    const auto rows = std::min(kIdsAtOnce, spec_.ids_rows - done);
    texts.resize(rows);
    pointers.resize(rows);
    for (std::uint64_t i = 0; i < rows; ++i) {
      assign_storable(spec_.next_id(), texts[i]);
      pointers[i] = texts[i].c_str();
    }
    const auto memory = simple_space(rows, 0);
    const auto selection = selected_rows(dataset.get(), done, rows);
    require(selection && H5Dwrite(dataset.get(), type.get(), memory.get(), selection.get(), H5P_DEFAULT,
                                  pointers.data()) >= 0,
            "write /ids of");
    done += rows;
  }
  require(dataset.close() >= 0, "close /ids of");
}

void NewResultFile::write_attributes() {
  for (const auto& [name, value] : spec_.attributes) {
    require(write_attribute(file_.get(), name, value), "write attribute " + name + " of");
  }
}

void NewResultFile::close() {
  // H5Fclose may hide a full disk; H5Fflush does not.
  require(H5Fflush(file_.get(), H5F_SCOPE_GLOBAL) >= 0, "flush");
  require(file_.close() >= 0, "close");
}

/// Gives every byte of the file a block on disk. A disk that fills up later, under MPI-IO, cannot be
/// survived.
void reserve(const std::string& path) {
  const core::UniqueFd fd(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) throw core::OutputError(fmt::format("cannot open {}: {}", path, core::errno_text(errno)));
  const auto size = static_cast<off_t>(core::file_size(path));
  const int error = core::fault_point("publish.h5_reserve") ? ENOSPC : ::posix_fallocate(fd.get(), 0, size);
  if (error != 0) {
    throw core::OutputError(
        fmt::format("cannot reserve {} bytes for {}: {}; free some space and run the same command again",
                    size, path, core::errno_text(error)));
  }
}

}  // namespace

void create_result_file(const H5FileSpec& spec, const std::string& path) {
  NewResultFile file(spec, path);
  file.create_fixed_datasets();
  if (spec.next_id) file.write_ids();
  file.write_attributes();
  file.close();
  reserve(path);
}

void check_result_file(const H5FileSpec& spec, const std::string& path) {
  const H5Reader reader(path);
  const auto require = [&](bool good, const std::string& name) {
    if (!good)
      throw core::OutputError(fmt::format(
          "{} was written, but {} is not as it should be; run the same command again", path, name));
  };
  for (const auto& wanted : spec.datasets) {
    auto shape = std::vector<std::uint64_t>{wanted.rows};
    if (wanted.columns != 0) shape.push_back(wanted.columns);
    require(reader.shape(wanted.name) == shape && reader.type(wanted.name) == wanted.type, wanted.name);
  }
  if (!spec.next_id) return;
  require(reader.shape(kIdsName) == std::vector<std::uint64_t>{spec.ids_rows}, kIdsName);
  // The last strings written: their heap is the first to be lost when the disk is full.
  if (spec.ids_rows > 0) reader.read_strings(kIdsName, spec.ids_rows - 1, 1);
}

}  // namespace muster::io::h5
