// SPDX-License-Identifier: Apache-2.0
#include "sample_support.h"

#include <algorithm>
#include <filesystem>
#include <span>
#include <utility>

#include "muster/core/digest.h"
#include "muster/io/hdf5_results.h"

namespace muster::test {

namespace fs = std::filesystem;

std::string pipeline(const std::string& name) {
  return source_file("tests/diffusion/fixtures/" + name);
}

/// muster sample of scratch/prompts.csv to scratch/out in float32 on one worker, unless `more` says
/// otherwise.
Command sample_job(const Scratch& scratch, const Command& more) {
  Command command{muster_program(), "sample"};
  const std::pair<std::string, std::string> usual[] = {
      {"-m", pipeline("sd15")}, {"--prompts", scratch / "prompts.csv"},
      {"-o", scratch / "out"},  {"--dtype", "fp32"},
      {"--workers", "1"},       {"--steps", "2"}};
  for (const auto& [flag, value] : usual) {
    if (std::find(more.begin(), more.end(), flag) == more.end()) command = command + Command{flag, value};
  }
  return command + more;
}

std::vector<Drawn> read_pictures(const std::string& directory) {
  const io::H5Reader reader(directory + "/images.h5");
  const auto rows = reader.shape("/seeds").at(0);
  const auto ids = reader.read_strings("/ids", 0, rows), files = reader.read_strings("/files", 0, rows),
             digests = reader.read_strings("/digests", 0, rows),
             prompts = reader.read_strings("/prompts", 0, rows);
  const auto seeds = reader.read_u64("/seeds", 0, rows);
  const auto ranks = reader.read_i32("/ranks", 0, rows), widths = reader.read_i32("/width", 0, rows),
             heights = reader.read_i32("/height", 0, rows);
  std::vector<Drawn> pictures;
  for (std::size_t i = 0; i < rows; ++i) {
    pictures.push_back({ids[i], files[i], read_text(directory + "/" + files[i]), prompts[i], seeds[i],
                        ranks[i], widths[i], heights[i]});
    EXPECT_EQ(core::sha256_hex(pictures.back().bytes), digests[i]) << files[i];
  }
  return pictures;
}

std::map<std::string, std::string> bytes_by_id(const std::string& directory) {
  std::map<std::string, std::string> out;
  for (const auto& picture : read_pictures(directory)) out[picture.id] = picture.bytes;
  return out;
}

Decoded decoded(const std::string& png) {
  const auto view = std::as_bytes(std::span(png));
  formats::PngTexts texts;
  Decoded out{.image = formats::decode_png({view.begin(), view.end()}, "picture", &texts), .texts = {}};
  out.texts.insert(texts.begin(), texts.end());
  return out;
}

std::set<std::string> files_in(const std::string& folder) {
  std::set<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    names.insert(entry.path().filename().string());
  return names;
}

const std::map<std::string, std::string>& reference_pictures() {
  static const auto* made = [] {
    const Scratch scratch;
    write_text(scratch / "prompts.csv", kPrompts);
    const auto outcome = run(sample_job(scratch));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    return new std::map<std::string, std::string>(bytes_by_id(scratch / "out"));
  }();
  return *made;
}

}  // namespace muster::test
