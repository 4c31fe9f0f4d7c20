// SPDX-License-Identifier: Apache-2.0
#include "io/hdf5_handles.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>

#include "muster/core/error.h"
#include "muster/core/strings.h"

namespace muster::io {

std::size_t h5_type_bytes(H5Type type) {
  switch (type) {
    case H5Type::kF32:
    case H5Type::kI32:
      return 4;
    case H5Type::kF16:
      return 2;
    case H5Type::kU8:
      return 1;
    case H5Type::kU64:
      return 8;
  }
  throw core::InternalError("unknown H5Type");
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  h5::start_library();
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

namespace h5 {
namespace {

herr_t append_error(unsigned depth, const H5E_error2_t* error, void* out) {
  constexpr unsigned kFrames = 4;  // the cause; what lies further out repeats that something failed
  auto& text = *static_cast<std::string*>(out);
  if (depth >= kFrames) return 0;
  if (depth > 0) text += "; ";
  text += fmt::format("{}: {}", error->func_name, error->desc != nullptr ? error->desc : "?");
  return 0;
}

}  // namespace

void start_library() {
  static const bool started = [] {
    H5dont_atexit();  // main decides the order of teardown
    return H5open() >= 0 && H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  }();
  core::internal_check(started, "the HDF5 library starts");
}

std::string error_text() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, append_error, &text);
  H5Eclear2(H5E_DEFAULT);
  return text.empty() ? "no reason given by the HDF5 library" : core::printable(text, 1000);
}

void throw_output(std::string_view what, const std::string& path) {
  throw core::OutputError(fmt::format("cannot {} {}: {}", what, path, error_text()));
}

void throw_data(std::string_view what, const std::string& path) {
  throw core::DataError(fmt::format("cannot {} {}: {}", what, path, error_text()));
}

void let_go_of_disk(hid_t file) noexcept {
  H5Eclear2(H5E_DEFAULT);
  void* driver_fd = nullptr;
  const int memory = ::memfd_create("abandoned.h5", MFD_CLOEXEC);
  if (memory < 0) return;
  if (H5Fget_vfd_handle(file, H5P_DEFAULT, &driver_fd) >= 0 && driver_fd != nullptr) {
    ::dup2(memory, *static_cast<int*>(driver_fd));
  }
  ::close(memory);
}

Properties properties(hid_t cls) {
  Properties list(H5Pcreate(cls));
  core::internal_check(static_cast<bool>(list), "H5Pcreate");
  return list;
}

Properties serial_access() {
  auto list = properties(H5P_FILE_ACCESS);
  H5Pset_fapl_sec2(list.get());
  H5Pset_file_locking(list.get(), false, true);
  // The oldest format, which every reader opens; and a file that cannot leave objects open behind its back.
  H5Pset_libver_bounds(list.get(), H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST);
  H5Pset_fclose_degree(list.get(), H5F_CLOSE_STRONG);
  return list;
}

Type file_type(H5Type type) {
  switch (type) {
    case H5Type::kF32:
      return Type(H5Tcopy(H5T_IEEE_F32LE));
    case H5Type::kI32:
      return Type(H5Tcopy(H5T_STD_I32LE));
    case H5Type::kU8:
      return Type(H5Tcopy(H5T_STD_U8LE));
    case H5Type::kU64:
      return Type(H5Tcopy(H5T_STD_U64LE));
    case H5Type::kF16:
      break;
  }
  // Sign in bit 15, five bits of exponent from 10, ten of mantissa from 0, bias 15.
  Type half(H5Tcopy(H5T_IEEE_F32LE));
  const bool made = H5Tset_fields(half.get(), 15, 10, 5, 0, 10) >= 0 && H5Tset_size(half.get(), 2) >= 0 &&
                    H5Tset_ebias(half.get(), 15) >= 0;
  core::internal_check(made, "the HDF5 library makes a 16-bit float type");
  return half;
}

Type string_type() {
  Type type(H5Tcopy(H5T_C_S1));
  const bool made = H5Tset_size(type.get(), H5T_VARIABLE) >= 0 && H5Tset_cset(type.get(), H5T_CSET_UTF8) >= 0;
  core::internal_check(made, "the HDF5 library makes a string type");
  return type;
}

Space simple_space(std::uint64_t rows, std::uint64_t columns) {
  const std::array<hsize_t, 2> dims = {rows, columns};
  Space space(H5Screate_simple(columns == 0 ? 1 : 2, dims.data(), nullptr));
  core::internal_check(static_cast<bool>(space), "H5Screate_simple");
  return space;
}

Space selected_rows(hid_t dataset, std::uint64_t first, std::uint64_t rows) {
  Space space(H5Dget_space(dataset));
  std::array<hsize_t, 2> dims{};
  if (!space || H5Sget_simple_extent_ndims(space.get()) > 2) return {};
  if (H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr) < 0) return {};
  const std::array<hsize_t, 2> start = {first, 0}, count = {rows, dims[1]};
  if (H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr) < 0)
    return {};
  return space;
}

}  // namespace h5
}  // namespace muster::io
