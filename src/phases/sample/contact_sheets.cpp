// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/contact_sheets.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/checked.h"
#include "muster/core/file.h"
#include "muster/formats/png.h"
#include "muster/report/contact_sheet.h"
#include "muster/report/report.h"
#include "phases/sample/picture_files.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kMostPictureBytes = std::uint64_t{1} << 32;
constexpr std::uint64_t kMostPixels = std::uint64_t{1} << 32;
constexpr std::size_t kCaptionCharacters = 200;

std::string sheet_name(std::uint64_t number) {
  return number == 0 ? "contact_sheet.png" : fmt::format("contact_sheet_{}.png", number + 1);
}

/// The smallest pictures are shown larger, pixel by pixel.
formats::Image enlarged(const formats::Image& image, std::uint32_t least) {
  const std::uint32_t factor = least / std::max(image.width, image.height);
  if (factor < 2) return image;
  formats::Image out{.width = image.width * factor,
                     .height = image.height * factor,
                     .channels = image.channels,
                     .pixels = {}};
  out.pixels.reserve(std::size_t{out.width} * out.height * out.channels);
  for (std::uint32_t y = 0; y < out.height; ++y)
    for (std::uint32_t x = 0; x < out.width; ++x) {
      const auto* pixel =
          image.pixels.data() + (std::size_t{y / factor} * image.width + x / factor) * image.channels;
      out.pixels.insert(out.pixels.end(), pixel, pixel + image.channels);
    }
  return out;
}

}  // namespace

formats::Image read_picture(const std::string& path) {
  const std::string bytes = core::read_file(path, kMostPictureBytes);
  const auto view = std::as_bytes(std::span(bytes));
  return formats::decode_png({view.begin(), view.end()}, path, nullptr, kMostPixels);
}

std::vector<std::string> write_contact_sheets(PublishContext& context, const PublishedPictures& pictures,
                                              std::uint32_t thumbnail) {
  const std::uint64_t count = core::ceil_div<std::uint64_t>(pictures.size(), report::kMostOnASheet);
  const auto rank = static_cast<std::uint64_t>(context.world.rank()),
             ranks = static_cast<std::uint64_t>(context.world.size());
  comm::collectively(context.world, [&] {
    for (std::uint64_t number = rank; number < count; number += ranks) {
      const std::uint64_t first = number * report::kMostOnASheet;
      const std::uint64_t last = std::min<std::uint64_t>(first + report::kMostOnASheet, pictures.size());
      std::vector<report::Captioned> captioned;
      for (std::uint64_t i = first; i < last; ++i) {
        if (i % 16 == 0) context.step(fmt::format("{}: picture {}", sheet_name(number), i));
        const auto picture = pictures.read(i);
        const auto path = context.run.file(picture_file(picture.facts.rank, pictures.item(i)));
        captioned.push_back({enlarged(report::thumbnail(read_picture(path), thumbnail), thumbnail / 2),
                             report::shortened(picture.prompt, kCaptionCharacters)});
      }
      const auto bytes =
          formats::encode_png(report::contact_sheet(captioned, {.thumbnail = thumbnail, .columns = 0}));
      core::publish_text(context.run.file(sheet_name(number)),
                         {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
  });
  std::vector<std::string> names;
  for (std::uint64_t number = 0; number < count; ++number) names.push_back(sheet_name(number));
  return names;
}

}  // namespace muster::phases
