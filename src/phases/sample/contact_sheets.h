// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "muster/phases/item_phase.h"
#include "phases/sample/published_pictures.h"

namespace muster::phases {

/// Collective: contact_sheet.png, contact_sheet_2.png, ... of at most 400 pictures each; the ranks share
/// them. Returns the names on every rank.
std::vector<std::string> write_contact_sheets(PublishContext& context, const PublishedPictures& pictures,
                                              std::uint32_t thumbnail);

/// A published picture's file; DataError when it is not what was written.
formats::Image read_picture(const std::string& path);

}  // namespace muster::phases
