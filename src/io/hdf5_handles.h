// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <hdf5.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "muster/core/unique_handle.h"
#include "muster/io/hdf5_results.h"

namespace muster::io::h5 {

template <herr_t (*Close)(hid_t)>
struct Traits {
  using Handle = hid_t;
  static hid_t invalid() { return H5I_INVALID_HID; }
  static int close(hid_t id) noexcept { return Close(id); }
};
using File = core::UniqueHandle<Traits<H5Fclose>>;
using Dataset = core::UniqueHandle<Traits<H5Dclose>>;
using Space = core::UniqueHandle<Traits<H5Sclose>>;
using Type = core::UniqueHandle<Traits<H5Tclose>>;
using Properties = core::UniqueHandle<Traits<H5Pclose>>;
using Attribute = core::UniqueHandle<Traits<H5Aclose>>;
using Object = core::UniqueHandle<Traits<H5Oclose>>;

/// Starts the library once: no messages on stderr, no exit handler of its own.
void start_library();

/// The library's error stack in one line, from the cause outwards; clears the stack.
std::string error_text();

[[noreturn]] void throw_output(std::string_view what, const std::string& path);
[[noreturn]] void throw_data(std::string_view what, const std::string& path);

/// After a failed write through the serial driver: lets the library write the rest into memory that is then
/// forgotten. It keeps what it could not write and otherwise tries again at each close and when it ends,
/// fails again, and crashes there.
void let_go_of_disk(hid_t file) noexcept;

/// A new property list, and the access list of every serial open: the library's own file locking is off,
/// because the run directory has a lock of its own and many cluster file systems refuse the library's.
Properties properties(hid_t cls);
Properties serial_access();

/// An owner from a raw id; throws when the call that gave it failed.
template <class Handle>
Handle owned_data(hid_t id, std::string_view what, const std::string& path) {
  if (id < 0) throw_data(what, path);
  return Handle(id);
}

/// The file's type for each H5Type; kF16 is IEEE 754 binary16, as numpy and h5py write it.
Type file_type(H5Type type);
/// Variable-length UTF-8.
Type string_type();

/// Little helpers over dataspaces of one or two dimensions.
Space simple_space(std::uint64_t rows, std::uint64_t columns);
/// The rows [first, first + rows) of a dataset's space, as a selection. Invalid when the library refuses.
Space selected_rows(hid_t dataset, std::uint64_t first, std::uint64_t rows);

/// Attributes of the root group.
bool write_attribute(hid_t file, const std::string& name, const H5Attribute& value);
std::map<std::string, H5Attribute> read_attributes(hid_t file, const std::string& path);

}  // namespace muster::io::h5
