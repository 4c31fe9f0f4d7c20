// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/published_pictures.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/error.h"
#include "phases/sample/picture_files.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kRowsAStep = 10'000;  // how often a pass over the records tells the watchdog
constexpr const char* kHexDigits = "0123456789abcdef";

std::string hex(std::span<const std::uint8_t> bytes) {
  std::string out;
  for (const auto byte : bytes) {
    out += kHexDigits[byte >> 4];
    out += kHexDigits[byte & 15];
  }
  return out;
}

std::vector<std::byte> comparable(const std::string& digest, std::uint64_t seed, std::uint32_t width,
                                  std::uint32_t height) {
  const auto text = fmt::format("{} {} {}x{}", digest, seed, width, height);
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// Columns of images.h5, row by row.
struct Table {
  std::vector<std::uint64_t> seeds, rows;
  std::vector<std::int32_t> ranks, widths, heights, copies, tokens;
  std::vector<std::uint8_t> truncated, decoded_again;
  std::vector<std::string> digests, files, prompts;

  void add(const PictureRecord& picture, std::uint64_t item) {
    const auto& facts = picture.facts;
    seeds.push_back(facts.seed);
    rows.push_back(facts.row);
    ranks.push_back(static_cast<std::int32_t>(facts.rank));
    widths.push_back(static_cast<std::int32_t>(facts.width));
    heights.push_back(static_cast<std::int32_t>(facts.height));
    copies.push_back(static_cast<std::int32_t>(facts.copy));
    tokens.push_back(static_cast<std::int32_t>(facts.tokens));
    truncated.push_back(facts.truncated);
    decoded_again.push_back(facts.decoded_again);
    digests.push_back(hex(facts.digest));
    files.push_back(picture_file(facts.rank, item));
    prompts.push_back(picture.prompt);
  }

  void write(io::H5SerialFile& file) const {
    const auto numbers = [&](const char* name, io::H5Type type, const auto& values) {
      file.dataset({.name = name, .type = type, .rows = values.size(), .columns = 0},
                   std::as_bytes(std::span(values)));
    };
    numbers("/seeds", io::H5Type::kU64, seeds);
    numbers("/prompt_rows", io::H5Type::kU64, rows);
    numbers("/copies", io::H5Type::kI32, copies);
    numbers("/ranks", io::H5Type::kI32, ranks);
    numbers("/width", io::H5Type::kI32, widths);
    numbers("/height", io::H5Type::kI32, heights);
    numbers("/n_tokens", io::H5Type::kI32, tokens);
    numbers("/truncated", io::H5Type::kU8, truncated);
    numbers("/decoded_again", io::H5Type::kU8, decoded_again);
    file.strings("/digests", digests);
    file.strings("/files", files);
    file.strings("/prompts", prompts);
  }
};

}  // namespace

PublishedPictures::PublishedPictures(const PublishContext& context) : context_(context) {
  places_.resize(context.rows);
  const auto& failed = context.failed_rows;
  std::uint64_t found = 0;
  context.run.for_each_ref(
      context.journal, [&](const io::JournalEntry& entry, const formats::RecordRef& ref) {
        if (ref.kind != formats::RecordKind::kResult) return;
        const auto before = std::lower_bound(failed.begin(), failed.end(), ref.item) - failed.begin();
        places_.at(ref.item - static_cast<std::uint64_t>(before)) = {
            .item = ref.item,
            .offset = ref.offset,
            .payload_bytes = ref.payload_bytes,
            .entry = static_cast<std::uint32_t>(&entry - context.journal.data())};
        ++found;
      });
  core::internal_check(found == places_.size(), "every picture that is published has a record");
}

PictureRecord PublishedPictures::read(std::uint64_t position) const {
  const auto& place = places_.at(position);
  const auto& segment = context_.journal[place.entry].segment;
  auto picture = unpack_picture(context_.run.payload(
      segment, {.item = place.item, .offset = place.offset, .payload_bytes = place.payload_bytes}));
  if (!picture)
    throw core::DataError(fmt::format(
        "{}: the record of item {} is no picture's; run with --fresh to start over", segment, place.item));
  return std::move(*picture);
}

PictureTotals write_images_file(const ImagesFile& target, const PublishedPictures& pictures) {
  io::H5SerialFile file(target.path);
  Table table;
  PictureTotals totals;
  for (std::uint64_t i = 0; i < pictures.size(); ++i) {
    if (i % kRowsAStep == 0) target.step(fmt::format("images.h5 from row {}", i));
    const auto picture = pictures.read(i);
    table.add(picture, pictures.item(i));
    totals.truncated += picture.facts.truncated;
    totals.decoded_again += picture.facts.decoded_again;
    if (picture.latents.empty()) continue;
    const std::vector<std::uint64_t> shape(picture.latent_shape.begin(), picture.latent_shape.end());
    file.tensor("/latents", target.ids[i], shape, picture.latents);
  }
  file.attributes(target.attributes);
  file.strings("/ids", target.ids);
  table.write(file);
  file.finish();
  return totals;
}

std::vector<std::byte> published_picture(const std::string& directory, std::uint64_t position) {
  const io::H5Reader reader(directory + "/images.h5");
  return comparable(reader.read_strings("/digests", position, 1).at(0),
                    reader.read_u64("/seeds", position, 1).at(0),
                    static_cast<std::uint32_t>(reader.read_i32("/width", position, 1).at(0)),
                    static_cast<std::uint32_t>(reader.read_i32("/height", position, 1).at(0)));
}

std::vector<std::byte> as_published_picture(std::span<const std::byte> payload) {
  auto picture = unpack_picture(payload);
  if (!picture) return {payload.begin(), payload.end()};
  if (!picture->rgb.empty()) encode_picture(*picture);
  const auto& facts = picture->facts;
  return comparable(hex(facts.digest), facts.seed, facts.width, facts.height);
}

}  // namespace muster::phases
