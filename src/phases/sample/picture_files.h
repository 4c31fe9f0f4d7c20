// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <set>
#include <string>

#include "muster/formats/segment.h"
#include "phases/sample/picture_record.h"

namespace muster::phases {

/// Where pictures lie, relative to the output directory. Names come from numbers alone.
inline constexpr const char* kPictureFolder = "images";
/// "images/r0003_i00000042.png"
std::string picture_file(std::uint32_t rank, std::uint64_t item);

/// Encodes an unsealed record's picture, writes its file (whole or not at all) and leaves in the record what
/// is kept.
void seal_picture(const std::string& directory, std::uint32_t rank, formats::Record& record);

/// Whether a sealed record's file is there with the bytes it had.
bool picture_is_intact(const std::string& directory, std::uint64_t item, const PictureRecord& record);

/// Removes pictures of killed starts that no record stands for: files of the names above that are not in
/// `wanted`.
void remove_other_pictures(const std::string& directory, const std::set<std::string>& wanted);

}  // namespace muster::phases
