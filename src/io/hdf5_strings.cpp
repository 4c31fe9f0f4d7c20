// SPDX-License-Identifier: Apache-2.0
#include "io/hdf5_strings.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "io/hdf5_handles.h"
#include "muster/core/error.h"

namespace muster::io::h5 {
namespace {

constexpr std::uint64_t kRowsAtOnce = 1024;
constexpr std::uint64_t kBytesAtOnce = std::uint64_t{64} << 20;

struct Rows {
  hid_t dataset;
  std::uint64_t first, count;
  const std::string& what;

  void read(hid_t memory_type, void* out) const {
    const auto file_space = selected_rows(dataset, first, count);
    const auto memory = simple_space(count, 0);
    if (!file_space || H5Dread(dataset, memory_type, memory.get(), file_space.get(), H5P_DEFAULT, out) < 0) {
      throw_data("read", what);
    }
  }
};

using Visit = std::function<void(std::string_view)>;

void visit_variable(const Rows& rows, hid_t stored, const Visit& visit) {
  struct Texts {  // the library allocates them
    std::vector<char*> pointers;
    ~Texts() {
      for (char* text : pointers) H5free_memory(text);
    }
  } texts{std::vector<char*>(rows.count, nullptr)};
  const auto type = string_type();
  H5Tset_cset(type.get(), H5Tget_cset(stored));
  rows.read(type.get(), texts.pointers.data());
  for (const char* text : texts.pointers)
    visit(text != nullptr ? std::string_view(text) : std::string_view());
}

void visit_fixed(const Rows& rows, hid_t stored, const Visit& visit) {
  const std::size_t width = H5Tget_size(stored);
  const bool spaces = H5Tget_strpad(stored) == H5T_STR_SPACEPAD;
  std::vector<char> bytes(width * rows.count);
  rows.read(stored, bytes.data());
  for (std::uint64_t i = 0; i < rows.count; ++i) {
    std::string_view text(bytes.data() + i * width, width);
    text = text.substr(0, std::min(text.size(), text.find('\0')));
    if (spaces) text = text.substr(0, text.find_last_not_of(' ') + 1);
    visit(text);
  }
}

void visit_integers(const Rows& rows, hid_t stored, const Visit& visit) {
  std::vector<std::uint64_t> values(rows.count);
  const bool has_sign = H5Tget_sign(stored) == H5T_SGN_2;
  rows.read(has_sign ? H5T_NATIVE_INT64 : H5T_NATIVE_UINT64, values.data());
  for (const auto value : values) {
    visit(has_sign ? fmt::format("{}", static_cast<std::int64_t>(value)) : fmt::format("{}", value));
  }
}

}  // namespace

void for_each_string(hid_t dataset, std::uint64_t first, std::uint64_t rows, const std::string& what,
                     const Visit& visit) {
  const Type stored(H5Dget_type(dataset));
  const Space space(H5Dget_space(dataset));
  if (!stored || !space) throw_data("read the type of", what);
  if (H5Sget_simple_extent_ndims(space.get()) != 1) {
    throw core::DataError(fmt::format("{} is not one-dimensional; a list of strings is expected", what));
  }
  const auto kind = H5Tget_class(stored.get());
  const bool variable = kind == H5T_STRING && H5Tis_variable_str(stored.get()) > 0;
  if (kind != H5T_STRING && kind != H5T_INTEGER) {
    throw core::DataError(fmt::format("{} holds neither strings nor integers", what));
  }
  const std::uint64_t width = variable ? sizeof(char*) : H5Tget_size(stored.get());
  if (width == 0 || width > kBytesAtOnce)
    throw core::DataError(fmt::format("{}: strings of {} bytes are too long", what, width));
  const std::uint64_t at_once = std::clamp<std::uint64_t>(kBytesAtOnce / width, 1, kRowsAtOnce);
  for (std::uint64_t done = 0; done < rows; done += at_once) {
    const Rows part{dataset, first + done, std::min(at_once, rows - done), what};
    if (variable) {
      visit_variable(part, stored.get(), visit);
    } else if (kind == H5T_STRING) {
      visit_fixed(part, stored.get(), visit);
    } else {
      visit_integers(part, stored.get(), visit);
    }
  }
}

}  // namespace muster::io::h5
