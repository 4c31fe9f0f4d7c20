// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "io/hdf5_handles.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/fault.h"
#include "muster/core/file.h"
#include "muster/formats/utf8.h"
#include "muster/io/hdf5_results.h"

namespace muster::io {
namespace {

using Group = core::UniqueHandle<h5::Traits<H5Gclose>>;

constexpr std::size_t kLongestLink = 200;

/// No times, so that the same content is the same bytes.
h5::Properties creation(hid_t cls) {
  auto list = h5::properties(cls);
  H5Pset_obj_track_times(list.get(), false);
  return list;
}

}  // namespace

std::string h5_link_name(const std::string& name) {
  const bool dots = name.find_first_not_of('.') == std::string::npos;
  std::string out;
  for (const char c : name) {
    const bool special = c == '%' || c == '/' || c == '\0' || (dots && c == '.');
    out += special ? fmt::format("%{:02X}", static_cast<unsigned char>(c)) : std::string(1, c);
  }
  if (out.empty()) return "%";  // no other name becomes that
  if (out.size() <= kLongestLink) return out;
  std::size_t end = kLongestLink;
  while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xC0) == 0x80) --end;  // whole characters
  return out.substr(0, end) + "%" + core::sha256_hex(name);
}

struct H5SerialFile::Impl {
  explicit Impl(const std::string& final_path) : path(final_path), temporary(final_path + ".tmp") {
    h5::start_library();
    ::unlink(temporary.c_str());
    const auto access = h5::serial_access();
    file =
        h5::File(H5Fcreate(temporary.c_str(), H5F_ACC_EXCL, creation(H5P_FILE_CREATE).get(), access.get()));
    if (!file) h5::throw_output("create", temporary);
  }

  void require(bool succeeded, const std::string& what) {
    if (succeeded) return;
    const auto reason = h5::error_text();
    h5::let_go_of_disk(file.get());
    throw core::OutputError(fmt::format(
        "cannot {} {}: {}; see that there is space and run the same command again", what, temporary, reason));
  }

  void write(const std::string& name, hid_t type, const h5::Space& space, const void* data) {
    h5::Dataset made(H5Dcreate2(file.get(), name.c_str(), type, space.get(), H5P_DEFAULT,
                                creation(H5P_DATASET_CREATE).get(), H5P_DEFAULT));
    require(made && (data == nullptr || H5Dwrite(made.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0),
            "write " + name + " of");
    require(made.close() >= 0, "close " + name + " of");
  }

  std::string path, temporary;
  h5::File file;
  std::set<std::string> groups;
  bool finished = false;
};

H5SerialFile::H5SerialFile(const std::string& path) : impl_(std::make_unique<Impl>(path)) {}

H5SerialFile::~H5SerialFile() {
  if (impl_->finished) return;
  if (impl_->file) h5::let_go_of_disk(impl_->file.get());
  impl_->file = {};
  ::unlink(impl_->temporary.c_str());
}

void H5SerialFile::attributes(const std::map<std::string, H5Attribute>& attributes) {
  for (const auto& [name, value] : attributes)
    impl_->require(h5::write_attribute(impl_->file.get(), name, value), "write attribute " + name + " of");
}

void H5SerialFile::dataset(const H5Dataset& dataset, std::span<const std::byte> rows) {
  core::internal_check(
      rows.size() == dataset.rows * std::max<std::uint64_t>(dataset.columns, 1) * h5_type_bytes(dataset.type),
      "a dataset's rows fit its shape");
  impl_->write(dataset.name, h5::file_type(dataset.type).get(),
               h5::simple_space(dataset.rows, dataset.columns), rows.empty() ? nullptr : rows.data());
}

void H5SerialFile::strings(const std::string& name, std::span<const std::string> values) {
  std::vector<std::string> storable(values.size());
  std::vector<const char*> pointers;
  for (std::size_t i = 0; i < values.size(); ++i) {
    formats::assign_utf8_replaced(std::string_view(values[i]).substr(0, values[i].find('\0')), storable[i]);
    pointers.push_back(storable[i].c_str());
  }
  impl_->write(name, h5::string_type().get(), h5::simple_space(values.size(), 0),
               pointers.empty() ? nullptr : static_cast<const void*>(pointers.data()));
}

void H5SerialFile::tensor(const std::string& group, const std::string& name,
                          std::span<const std::uint64_t> shape, std::span<const float> values) {
  if (impl_->groups.insert(group).second) {
    Group made(H5Gcreate2(impl_->file.get(), group.c_str(), H5P_DEFAULT, creation(H5P_GROUP_CREATE).get(),
                          H5P_DEFAULT));
    impl_->require(made && made.close() >= 0, "create group " + group + " of");
  }
  const std::vector<hsize_t> extents(shape.begin(), shape.end());
  const h5::Space space(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr));
  core::internal_check(
      space && static_cast<std::uint64_t>(H5Sget_simple_extent_npoints(space.get())) == values.size(),
      "a tensor's values fit its shape");
  const std::string path = group + "/" + h5_link_name(name);
  impl_->write(path, h5::file_type(H5Type::kF32).get(), space, values.empty() ? nullptr : values.data());
  const h5::Dataset dataset(H5Dopen2(impl_->file.get(), path.c_str(), H5P_DEFAULT));
  // An attribute of more than 64 KB does not fit the oldest format; such an id is in /ids.
  constexpr std::size_t kMostAttribute = 60'000;
  impl_->require(dataset && (name.size() > kMostAttribute || h5::write_attribute(dataset.get(), "id", name)),
                 "write the id of a tensor of");
}

void H5SerialFile::finish() {
  const bool planted = core::fault_point("publish.h5_serial");
  // H5Fclose may hide a full disk; H5Fflush does not.
  impl_->require(!planted && H5Fflush(impl_->file.get(), H5F_SCOPE_GLOBAL) >= 0, "flush");
  impl_->require(impl_->file.close() >= 0, "close");
  core::publish_file(impl_->temporary, impl_->path);
  impl_->finished = true;
}

}  // namespace muster::io
