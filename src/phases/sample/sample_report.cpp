// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/sample_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/io/hdf5_results.h"
#include "muster/report/contact_sheet.h"
#include "phases/sample/contact_sheets.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kMostShown = 40;  // with the size below about a megabyte
constexpr std::uint32_t kThumbnail = 112;
constexpr std::size_t kCaptionCharacters = 60;

}  // namespace

std::vector<report::Section> sample_report(const ReportSource& source) {
  const io::H5Reader reader(source.directory + "/images.h5");
  const std::uint64_t rows = reader.shape("/seeds").at(0), shown = std::min(rows, kMostShown);
  report::Pictures pictures{.title = shown < rows
                                         ? fmt::format("{} of {} pictures, at equal distances", shown, rows)
                                         : fmt::format("all {} pictures", rows),
                            .pictures = {}};
  for (std::uint64_t i = 0; i < shown; ++i) {
    const std::uint64_t row = i * rows / shown;
    const auto file = reader.read_strings("/files", row, 1).at(0),
               prompt = reader.read_strings("/prompts", row, 1).at(0);
    try {
      const auto image = read_picture(source.directory + "/" + file);
      pictures.pictures.push_back(
          {.png = formats::encode_png(report::thumbnail(image, kThumbnail)),
           .caption = report::shortened(prompt, kCaptionCharacters),
           .hint =
               fmt::format("{}\n{}, {} x {}, seed {}\n{}", reader.read_strings("/ids", row, 1).at(0), file,
                           image.width, image.height, reader.read_u64("/seeds", row, 1).at(0), prompt)});
    } catch (const core::DataError& error) {
      core::log::warning("report.html shows a picture less: {}", error.what());
    }
  }
  report::Section section{.title = "Pictures", .blocks = {}};
  if (rows == 0) {
    section.blocks.emplace_back(report::Paragraph{"There are no pictures."});
  } else {
    section.blocks.emplace_back(std::move(pictures));
  }
  return {std::move(section)};
}

}  // namespace muster::phases
