// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <hdf5.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace muster::io::h5 {

/// Calls `visit` for the rows [first, first + rows) of a one-dimensional dataset of strings (fixed or
/// variable length; without their padding) or integers (in decimal), a few thousand at a time. `what` names
/// the dataset in errors (DataError).
void for_each_string(hid_t dataset, std::uint64_t first, std::uint64_t rows, const std::string& what,
                     const std::function<void(std::string_view)>& visit);

}  // namespace muster::io::h5
