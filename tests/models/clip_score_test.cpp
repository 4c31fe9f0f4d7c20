// SPDX-License-Identifier: Apache-2.0
// Scores of pictures and texts against transformers' CLIPModel (generate_clip_score.py).
#include "muster/models/clip_score.h"

#include <gmock/gmock.h>

#include <vector>

#include "models/clip_vision/clip_pixels.h"
#include "models/image_fixture.h"
#include "muster/core/error.h"

namespace muster::models {
namespace {

using testing::HasSubstr;

constexpr int kPictures = 7;

std::string model_folder(const std::string& name) {
  return (fixture_root() / "clip_score" / name).string();
}

/// Pictures, ids and what the reference makes of them.
class ExpectedScores {
 public:
  explicit ExpectedScores(const std::string& name)
      : file_(formats::Safetensors::open(model_folder(name) + "/expected.safetensors")) {
    const auto ids = values_of<std::int32_t>(file_, "ids");
    for (std::size_t i = 0; i < 2; ++i)
      texts.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(i * ids.size() / 2),
                         ids.begin() + static_cast<std::ptrdiff_t>((i + 1) * ids.size() / 2));
    for (int i = 0; i < kPictures; ++i) bytes_.push_back(values_of<std::uint8_t>(file_, key(i, "picture")));
  }

  RgbPicture picture(int i) const {
    const auto shape = file_.find(key(i, "picture"))->shape;
    return {static_cast<std::uint32_t>(shape[1]), static_cast<std::uint32_t>(shape[0]),
            bytes_[static_cast<std::size_t>(i)]};
  }
  std::vector<float> pixels(int i) const { return values_of<float>(file_, key(i, "pixels")); }
  std::vector<float> scores(int i) const { return values_of<float>(file_, key(i, "scores")); }

  std::vector<std::vector<std::uint32_t>> texts;

 private:
  static std::string key(int i, const char* what) { return fmt::format("{}.{}", i, what); }

  formats::Safetensors file_;
  std::vector<std::vector<std::uint8_t>> bytes_;
};

class ClipScoreFixture : public testing::TestWithParam<const char*> {};

TEST_P(ClipScoreFixture, EqualsTransformers) {
  const ExpectedScores expected(GetParam());
  const auto model = load_clip_score(model_folder(GetParam()), {});
  EXPECT_EQ(model->max_tokens(), 16u);
  EXPECT_EQ(model->vocab_size(), 200u);
  double largest = 0;
  for (int i = 0; i < kPictures; ++i) {
    const auto scores = expected.scores(i);
    for (std::size_t k = 0; k < expected.texts.size(); ++k)
      largest =
          std::max(largest, std::abs(model->score(expected.picture(i), expected.texts[k]) - scores.at(k)));
  }
  fmt::print("{}: largest difference of {} scores {:.2g}\n", GetParam(), 2 * kPictures, largest);
  EXPECT_LE(largest, 1e-4);
}

TEST_P(ClipScoreFixture, PixelsAreThoseOfTheReference) {
  const ExpectedScores expected(GetParam());
  const auto json = formats::read_json(model_folder(GetParam()) + "/config.json");
  const auto size = json.at("vision_config").get<std::int64_t>("image_size");
  const auto config = ClipPixelsConfig::read(
      formats::read_json(model_folder(GetParam()) + "/preprocessor_config.json"), size);
  for (int i = 0; i < kPictures; ++i)
    EXPECT_LE(largest_difference(clip_pixels(expected.picture(i), config), expected.pixels(i)), 1e-6)
        << "picture " << i;  // a byte is 0.004 apart from the next
}

INSTANTIATE_TEST_SUITE_P(Models, ClipScoreFixture, testing::Values("cut", "square", "rest"),
                         [](const auto& info) { return std::string(info.param); });

TEST(ClipScore, PadTokensBehindTheEndChangeNothing) {
  const ExpectedScores expected("cut");
  const auto model = load_clip_score(model_folder("cut"), {});
  auto padded = expected.texts[0];
  padded.resize(16, 199);
  EXPECT_NEAR(model->score(expected.picture(0), padded), model->score(expected.picture(0), expected.texts[0]),
              1e-4);
}

TEST(ClipScore, NamesItsFiles) {
  EXPECT_EQ(clip_score_files(model_folder("cut")),
            (std::vector<std::string>{"config.json", "model.safetensors", "preprocessor_config.json"}));
}

TEST(ClipScore, RefusesOtherFolders) {
  struct Damage {
    const char *file, *from, *to;
    std::vector<std::string> says;
  };
  const std::vector<Damage> damages = {
      {"config.json", "\"model_type\": \"clip\"", "\"model_type\": \"siglip\"", {"model_type", "siglip"}},
      {"config.json", "\"text_config\"", "\"text\"", {"text_config", "missing"}},
      {"config.json",
       "\"projection_dim\": 20",
       "\"projection_dim\": 24",
       {"text_projection.weight", "visual_projection.weight", "projection_dim=24"}},
      {"config.json", "\"patch_size\": 7", "\"patch_size\": 99", {"patch_size", "99"}},
      {"config.json", "\"num_channels\": 3", "\"num_channels\": 1", {"num_channels"}},
      {"config.json", "\"image_size\": 28", "\"image_size\": 14", {"preprocessor_config.json", "image_size"}},
      {"preprocessor_config.json", "\"resample\": 3", "\"resample\": 2", {"resample", "bicubic"}},
      {"preprocessor_config.json", "\"do_normalize\": true", "\"do_normalize\": false", {"do_normalize"}},
      {"preprocessor_config.json", "\"shortest_edge\": 28", "\"shortest_edge\": 27", {"crop_size"}},
      {"preprocessor_config.json", "\"shortest_edge\": 28", "\"longest_edge\": 28", {"height"}},
      {"preprocessor_config.json", "\"image_mean\": [", "\"image_mean\": [1,", {"image_mean", "three"}},
  };
  for (const Damage& damage : damages) {
    const ScratchFolder folder("clip_score/cut");
    folder.replace(damage.file, damage.from, damage.to);
    try {
      load_clip_score(folder.path(), {});
      ADD_FAILURE() << damage.to << " was accepted";
    } catch (const core::DataError& error) {
      for (const auto& part : damage.says) EXPECT_THAT(std::string(error.what()), HasSubstr(part));
    }
  }
  const ScratchFolder empty("");
  EXPECT_THROW(load_clip_score(empty.path(), {}), core::DataError);
}

}  // namespace
}  // namespace muster::models
