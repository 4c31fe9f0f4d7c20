// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <optional>

#include "io/hdf5_handles.h"
#include "muster/core/error.h"
#include "muster/formats/utf8.h"

namespace muster::io::h5 {
namespace {

constexpr std::size_t kMaxAttributeBytes = 1 << 20;

std::optional<std::string> read_text(hid_t attribute, hid_t type) {
  if (H5Tis_variable_str(type) > 0) {
    const auto memory_type = string_type();
    H5Tset_cset(memory_type.get(), H5Tget_cset(type));
    char* text = nullptr;
    if (H5Aread(attribute, memory_type.get(), &text) < 0) return std::nullopt;
    std::string out = text != nullptr ? text : "";
    H5free_memory(text);
    return out;
  }
  const std::size_t size = H5Tget_size(type);
  if (size == 0 || size > kMaxAttributeBytes) return std::nullopt;
  std::string out(size, '\0');
  if (H5Aread(attribute, type, out.data()) < 0) return std::nullopt;
  out.resize(std::min(out.size(), out.find('\0')));
  return out;
}

std::optional<H5Attribute> read_attribute(hid_t attribute) {
  const Space space(H5Aget_space(attribute));
  const Type type(H5Aget_type(attribute));
  if (!space || !type || H5Sget_simple_extent_npoints(space.get()) != 1) return std::nullopt;
  switch (H5Tget_class(type.get())) {
    case H5T_STRING: {
      if (auto text = read_text(attribute, type.get())) return H5Attribute(std::move(*text));
      return std::nullopt;
    }
    case H5T_INTEGER: {
      std::int64_t value = 0;
      return H5Aread(attribute, H5T_NATIVE_INT64, &value) < 0 ? std::nullopt
                                                              : std::optional<H5Attribute>(value);
    }
    case H5T_FLOAT: {
      double value = 0;
      return H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) < 0 ? std::nullopt
                                                               : std::optional<H5Attribute>(value);
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

bool write_attribute(hid_t file, const std::string& name, const H5Attribute& value) {
  std::string text;
  const char* text_pointer = nullptr;
  Type type;
  const void* data = nullptr;
  if (const auto* string = std::get_if<std::string>(&value)) {
    // The file says UTF-8, and a string ends at its first NUL there.
    formats::assign_utf8_replaced(string->substr(0, string->find('\0')), text);
    text_pointer = text.c_str();
    type = string_type();
    data = &text_pointer;
  } else if (const auto* number = std::get_if<std::int64_t>(&value)) {
    type = Type(H5Tcopy(H5T_STD_I64LE));
    data = number;
  } else {
    type = Type(H5Tcopy(H5T_IEEE_F64LE));
    data = &std::get<double>(value);
  }
  const Space scalar(H5Screate(H5S_SCALAR));
  Attribute attribute(H5Acreate2(file, name.c_str(), type.get(), scalar.get(), H5P_DEFAULT, H5P_DEFAULT));
  return attribute && H5Awrite(attribute.get(), type.get(), data) >= 0 && attribute.close() >= 0;
}

std::map<std::string, H5Attribute> read_attributes(hid_t file, const std::string& path) {
  struct Walk {
    std::map<std::string, H5Attribute> found;
    std::exception_ptr failure;  // must not fly through the library's C frames
  } walk;
  const auto visit = [](hid_t object, const char* name, const H5A_info_t*, void* data) -> herr_t {
    auto& state = *static_cast<Walk*>(data);
    try {
      const Attribute attribute(H5Aopen(object, name, H5P_DEFAULT));
      if (!attribute) return 0;
      if (auto value = read_attribute(attribute.get())) state.found.emplace(name, std::move(*value));
      return 0;
    } catch (const std::exception&) {
      state.failure = std::current_exception();
      return -1;
    }
  };
  const auto status = H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, nullptr, visit, &walk);
  if (walk.failure) std::rethrow_exception(walk.failure);
  if (status < 0) throw_data("read the attributes of", path);
  return std::move(walk.found);
}

}  // namespace muster::io::h5
