// SPDX-License-Identifier: Apache-2.0
// What the tests of the phase sample share: jobs over the tiny pipelines of tests/diffusion, and their
// pictures read back.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "muster/formats/png.h"
#include "system.h"

namespace muster::test {

/// tests/diffusion/fixtures/NAME.
std::string pipeline(const std::string& name);
/// muster sample of scratch/prompts.csv to scratch/out in float32 on one worker, unless `more` says
/// otherwise.
Command sample_job(const Scratch& scratch, const Command& more = {});

/// Mixed sizes, steps, guidance and counts: eleven pictures.
inline constexpr const char* kPrompts =
    "id,prompt,negative_prompt,seed,width,height,steps,guidance,count\n"
    "cat,\"A cat, sitting\",,,,,,,2\n"
    "dog,A dog,blurry,7,,,3,,\n"
    "wide,A bird,,,48,32,,,\n"
    "plain,A fish,,,,,,1,3\n"
    "high,A horse,,,32,64,3,4.5,\n"
    "last,A cow,,,,,,,3\n";
inline constexpr int kPictures = 11;

/// A row of images.h5, and its file.
struct Drawn {
  std::string id, file, bytes, prompt;
  std::uint64_t seed = 0;
  std::int32_t rank = 0, width = 0, height = 0;
};
std::vector<Drawn> read_pictures(const std::string& directory);
std::map<std::string, std::string> bytes_by_id(const std::string& directory);
/// What one rank and one worker make of kPrompts; made once.
const std::map<std::string, std::string>& reference_pictures();

struct Decoded {
  formats::Image image;
  std::map<std::string, std::string> texts;
};
Decoded decoded(const std::string& png);
std::set<std::string> files_in(const std::string& folder);

/// kPrompts in scratch/prompts.csv.
class Sample : public ::testing::Test {
 protected:
  void SetUp() override { write_text(scratch_ / "prompts.csv", kPrompts); }
  std::string out() const { return scratch_ / "out"; }
  Outcome draw(const Command& more = {}, int ranks = 1, const Environment& environment = {}) {
    const Command job = sample_job(scratch_, more);
    return run(ranks == 1 ? job : mpirun(ranks) + job, environment);
  }
  Scratch scratch_;
};

}  // namespace muster::test
