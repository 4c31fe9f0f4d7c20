// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <string_view>

#include "io/hdf5_handles.h"
#include "io/hdf5_strings.h"
#include "muster/core/checked.h"
#include "muster/core/error.h"

namespace muster::io {
namespace {

/// HDF5 converts odd float types bit by bit; this is one multiplication: shift exponent and mantissa to their
/// place in a binary32 and correct the bias, which also normalizes subnormals.
float widen_half(std::uint16_t half) {
  constexpr float kBiasShift = 0x1p112f;
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  const float value = std::bit_cast<float>(magnitude << 13) * kBiasShift;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
}

}  // namespace

struct H5Reader::Impl {
  explicit Impl(const std::string& p) : path(p) {
    h5::start_library();
    const auto access = h5::serial_access();
    file = h5::owned_data<h5::File>(H5Fopen(p.c_str(), H5F_ACC_RDONLY, access.get()), "open", p);
  }

  h5::Dataset open(const std::string& name) const {
    return h5::owned_data<h5::Dataset>(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT),
                                       "open dataset " + name + " of", path);
  }

  std::vector<std::uint64_t> shape(hid_t dataset, const std::string& name) const {
    const h5::Space space(H5Dget_space(dataset));
    const int rank = space ? H5Sget_simple_extent_ndims(space.get()) : -1;
    if (rank < 0 || rank > H5S_MAX_RANK) h5::throw_data("read the shape of " + name + " in", path);
    std::vector<hsize_t> dims(static_cast<std::size_t>(rank));
    if (rank > 0) H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr);
    return {dims.begin(), dims.end()};
  }

  /// Elements in `rows` rows. DataError when they are not all there: nothing is allocated before this has
  /// been asked.
  std::uint64_t elements(hid_t dataset, const std::string& name, std::uint64_t first,
                         std::uint64_t rows) const {
    const auto dims = shape(dataset, name);
    if (dims.empty() || dims.size() > 2) {
      throw core::DataError(
          fmt::format("{} in {} has {} dimensions; rows need one or two", name, path, dims.size()));
    }
    const auto end = core::checked_add(first, rows);
    if (!end || *end > dims[0]) {
      throw core::DataError(fmt::format("{} in {} has {} rows; [{}, {} more) were asked for", name, path,
                                        dims[0], first, rows));
    }
    hsize_t file_bytes = 0;
    if (H5Fget_filesize(file.get(), &file_bytes) < 0 || H5Dget_storage_size(dataset) > file_bytes) {
      throw core::DataError(fmt::format("{} in {} claims to be larger than the file", name, path));
    }
    const auto count = core::checked_mul(rows, dims.size() == 2 ? dims[1] : std::uint64_t{1});
    if (!count || *count > std::numeric_limits<std::uint64_t>::max() / 16) {
      throw core::DataError(fmt::format("{} in {} is too large", name, path));
    }
    return *count;
  }

  template <class T>
  std::vector<T> read(const std::string& name, std::uint64_t first, std::uint64_t rows, hid_t memory_type,
                      H5T_class_t wanted) const {
    const auto dataset = open(name);
    const auto count = elements(dataset.get(), name, first, rows);
    const h5::Type stored(H5Dget_type(dataset.get()));
    if (H5Tget_class(stored.get()) != wanted) {
      throw core::DataError(fmt::format("{} in {} holds another kind of numbers than expected", name, path));
    }
    std::vector<T> out(count);
    if (count == 0) return out;
    const auto file_space = h5::selected_rows(dataset.get(), first, rows);
    const auto memory = h5::simple_space(count, 0);
    if (!file_space ||
        H5Dread(dataset.get(), memory_type, memory.get(), file_space.get(), H5P_DEFAULT, out.data()) < 0) {
      h5::throw_data("read " + name + " of", path);
    }
    return out;
  }

  std::string path;
  h5::File file;
};

H5Reader::H5Reader(const std::string& path) : impl_(std::make_unique<Impl>(path)) {}
H5Reader::~H5Reader() = default;

std::vector<std::uint64_t> H5Reader::shape(const std::string& dataset) const {
  return impl_->shape(impl_->open(dataset).get(), dataset);
}

H5Type H5Reader::type(const std::string& name) const {
  const auto dataset = impl_->open(name);
  const h5::Type stored(H5Dget_type(dataset.get()));
  for (const auto type : {H5Type::kF32, H5Type::kF16, H5Type::kI32, H5Type::kU8, H5Type::kU64}) {
    if (H5Tequal(stored.get(), h5::file_type(type).get()) > 0) return type;
  }
  throw core::DataError(fmt::format(
      "{} in {} has a type that is none of float32, float16, int32, uint8, uint64", name, impl_->path));
}

std::vector<float> H5Reader::read_rows(const std::string& name, std::uint64_t first,
                                       std::uint64_t rows) const {
  const h5::Type stored(H5Dget_type(impl_->open(name).get()));
  const auto half = h5::file_type(H5Type::kF16);
  if (H5Tequal(stored.get(), half.get()) <= 0)
    return impl_->read<float>(name, first, rows, H5T_NATIVE_FLOAT, H5T_FLOAT);
  const auto narrow = impl_->read<std::uint16_t>(name, first, rows, half.get(), H5T_FLOAT);
  std::vector<float> out(narrow.size());
  std::transform(narrow.begin(), narrow.end(), out.begin(), widen_half);
  return out;
}

std::vector<std::int32_t> H5Reader::read_i32(const std::string& name, std::uint64_t first,
                                             std::uint64_t rows) const {
  return impl_->read<std::int32_t>(name, first, rows, H5T_NATIVE_INT32, H5T_INTEGER);
}

std::vector<std::uint8_t> H5Reader::read_u8(const std::string& name, std::uint64_t first,
                                            std::uint64_t rows) const {
  return impl_->read<std::uint8_t>(name, first, rows, H5T_NATIVE_UINT8, H5T_INTEGER);
}

std::vector<std::uint64_t> H5Reader::read_u64(const std::string& name, std::uint64_t first,
                                              std::uint64_t rows) const {
  return impl_->read<std::uint64_t>(name, first, rows, H5T_NATIVE_UINT64, H5T_INTEGER);
}

std::vector<float> H5Reader::read_tensor(const std::string& name) const {
  const auto dataset = impl_->open(name);
  const h5::Space space(H5Dget_space(dataset.get()));
  const auto count = space ? H5Sget_simple_extent_npoints(space.get()) : -1;
  hsize_t file_bytes = 0;
  const bool sound = count >= 0 && H5Fget_filesize(impl_->file.get(), &file_bytes) >= 0 &&
                     static_cast<std::uint64_t>(count) <= file_bytes / sizeof(float);
  if (!sound) throw core::DataError(fmt::format("{} in {} claims to be larger than the file", name, impl_->path));
  std::vector<float> out(static_cast<std::size_t>(count));
  if (!out.empty() &&
      H5Dread(dataset.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, out.data()) < 0)
    h5::throw_data("read " + name + " of", impl_->path);
  return out;
}

std::vector<std::string> H5Reader::read_strings(const std::string& name, std::uint64_t first,
                                                std::uint64_t rows) const {
  const auto dataset = impl_->open(name);
  impl_->elements(dataset.get(), name, first, rows);
  std::vector<std::string> out;
  out.reserve(rows);
  h5::for_each_string(dataset.get(), first, rows, name + " of " + impl_->path,
                      [&](std::string_view text) { out.emplace_back(text); });
  return out;
}

std::map<std::string, H5Attribute> H5Reader::attributes() const {
  return h5::read_attributes(impl_->file.get(), impl_->path);
}

}  // namespace muster::io
