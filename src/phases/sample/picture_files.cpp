// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/picture_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/fault.h"
#include "muster/core/file.h"
#include "muster/core/log.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

/// r0003_i00000042.png, or what a killed start left of one.
bool is_picture_name(const std::string& name) {
  const auto number_end = [&](std::size_t at) {
    return std::min(name.find_first_not_of("0123456789", at), name.size());
  };
  if (name.empty() || name[0] != 'r') return false;
  const std::size_t rank_end = number_end(1);
  if (rank_end == 1 || name.compare(rank_end, 2, "_i") != 0) return false;
  const std::size_t item_end = number_end(rank_end + 2);
  const std::string rest = name.substr(item_end);
  return item_end > rank_end + 2 && (rest == ".png" || rest == ".png.tmp");
}

}  // namespace

std::string picture_file(std::uint32_t rank, std::uint64_t item) {
  return fmt::format("{}/r{:04d}_i{:08d}.png", kPictureFolder, rank, item);
}

void seal_picture(const std::string& directory, std::uint32_t rank, formats::Record& record) {
  auto picture = unpack_picture(record.payload);
  core::internal_check(picture && !picture->rgb.empty(), "a picture's record is sealed once");
  picture->facts.rank = rank;
  const auto bytes = encode_picture(*picture);
  core::publish_text((fs::path(directory) / picture_file(rank, record.item)).string(),
                     {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  core::fault_point("sample.picture_written");
  record.payload = pack(*picture);
}

bool picture_is_intact(const std::string& directory, std::uint64_t item, const PictureRecord& record) {
  const auto path = (fs::path(directory) / picture_file(record.facts.rank, item)).string();
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return false;
  try {
    const core::MappedFile file(path);
    core::Sha256 digest;
    digest.update(file.bytes());
    return digest.finish() == record.facts.digest;
  } catch (const core::DataError& error) {
    core::log::debug("{}", error.what());
    return false;
  }
}

void remove_other_pictures(const std::string& directory, const std::set<std::string>& wanted) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(fs::path(directory) / kPictureFolder, error)) {
    const auto name = entry.path().filename().string();
    if (!is_picture_name(name) || wanted.contains(std::string(kPictureFolder) + "/" + name)) continue;
    core::log::debug("removing {}, which no record stands for", entry.path().string());
    fs::remove(entry.path(), error);
  }
}

}  // namespace muster::phases
