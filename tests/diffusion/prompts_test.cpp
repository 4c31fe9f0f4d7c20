// SPDX-License-Identifier: Apache-2.0
// What lies between a prompt and the UNet, and between the last latents and the VAE.
#include "diffusion/prompts.h"

#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>

#include <filesystem>

#include "diffusion/pictures.h"
#include "picture_cases.h"
#include "support/job.h"

namespace muster::diffusion {
namespace {

namespace fs = std::filesystem;
using models::DiffusionFolder;

constexpr std::int64_t kRow = 77, kOwn = 75;

std::string words(const std::string& word, std::int64_t count) {
  std::string out;
  for (std::int64_t i = 0; i < count; ++i) out += (i == 0 ? "" : " ") + word;
  return out;
}

/// Words of one token each: three rows, the last one not full.
const std::vector<std::string>& pieces() {
  static const std::vector<std::string> kPieces{words("a", kOwn), words("b", kOwn), words("c", 3)};
  return kPieces;
}
std::string whole() {
  return pieces()[0] + " " + pieces()[1] + " " + pieces()[2];
}

class PromptTest : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Folders, PromptTest, testing::Values("sd15", "sd2", "sdxl"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(PromptTest, ALongOneFillsRowsInItsOrder) {
  const PromptTokens tokens(DiffusionFolder::read(fixture(GetParam())), LongPrompt::kChunk);
  ASSERT_EQ(tokens.chunks(whole()), pieces().size());
  for (std::size_t tokenizer = 0; tokenizer < tokens.tokenizers(); ++tokenizer) {
    const at::Tensor rows = tokens.ids(whole(), tokenizer, 4);
    for (std::int64_t row = 0; row < 4; ++row) {
      const std::string piece = row < 3 ? pieces()[static_cast<std::size_t>(row)] : "";
      EXPECT_TRUE(at::equal(rows[row], tokens.ids(piece, tokenizer, 1)[0])) << tokenizer << ", row " << row;
    }
  }
}

// Also when encodings of the same prompts with fewer rows are kept already.
TEST_P(PromptTest, StatesStandInTheOrderOfTheRows) {
  const c10::InferenceMode inference;
  const auto folder = DiffusionFolder::read(fixture(GetParam()));
  PromptEncoder encoder(std::make_shared<Parts>(config_of(GetParam()), folder), folder, LongPrompt::kChunk);
  const auto alone = encoder.encode(pieces(), 1);
  const std::vector<std::string> prompts{whole(), pieces()[2]};
  for (int turn = 0; turn < 2; ++turn) {
    const auto together = encoder.encode(prompts, 3);
    for (std::int64_t row = 0; row < 3; ++row)
      EXPECT_TRUE(at::equal(together[0].hidden.narrow(1, row * kRow, kRow),
                            alone[static_cast<std::size_t>(row)].hidden))
          << "row " << row;
    ASSERT_EQ(together[1].hidden.size(1), 3 * kRow);
    EXPECT_TRUE(at::equal(together[1].hidden.narrow(1, 0, kRow), alone[2].hidden));
    if (alone[0].pooled.defined()) {
      EXPECT_TRUE(at::equal(together[0].pooled, alone[0].pooled));
    }
    EXPECT_EQ(encoder.encode({&pieces()[2], 1}, 1)[0].hidden.size(1), kRow);
  }
}

// The reference fills rows up to the tokenizer's limit, not the encoder's.
TEST_P(PromptTest, ATokenizersLimitMakesShorterRows) {
  const test::Scratch scratch;
  const std::string path = scratch / "pipeline", file = path + "/tokenizer/tokenizer_config.json";
  fs::copy(fixture(GetParam()), path, fs::copy_options::recursive);
  std::string text = test::read_text(file);
  const std::string usual = "\"model_max_length\": 77";
  ASSERT_NE(text.find(usual), std::string::npos);
  test::write_text(file, text.replace(text.find(usual), usual.size(), "\"model_max_length\": 20"));
  const PromptTokens tokens(DiffusionFolder::read(path), LongPrompt::kTruncate);
  EXPECT_EQ(tokens.length("").most, 20U);
  for (std::size_t tokenizer = 0; tokenizer < tokens.tokenizers(); ++tokenizer) {
    EXPECT_EQ(tokens.ids(words("a", 30), tokenizer, 1).sizes(), (std::vector<std::int64_t>{1, 20}));
    EXPECT_TRUE(
        at::equal(tokens.ids(words("a", 30), tokenizer, 1), tokens.ids(words("a", 18), tokenizer, 1)));
    EXPECT_FALSE(
        at::equal(tokens.ids(words("a", 30), tokenizer, 1), tokens.ids(words("a", 17), tokenizer, 1)));
  }
}

TEST(Decoding, TakesLatentsBackToTheVaesScale) {
  const c10::InferenceMode inference;
  auto folder = DiffusionFolder::read(fixture("sdxl"));
  const auto checkpoint = models::open_component(folder.path, "vae");
  const at::Tensor latents = at::linspace(-1, 1, 4 * 6 * 4).view({1, 4, 6, 4});
  for (const bool by_channel : {false, true}) {
    if (by_channel) {
      folder.vae.latents_mean = {0.1, -0.2, 0.3, 0.4};
      folder.vae.latents_std = {0.5, 1, 2, 1.5};
    }
    folder.vae.shift_factor = 0.7;  // which the pipelines' reference does not read
    models::AutoencoderKL vae(folder.vae, models::AutoencoderParts::kDecoder);
    models::load_component(vae, checkpoint, folder.path + "/vae/config.json");
    vae.prepare({});
    at::Tensor unscaled = latents / folder.vae.scaling_factor;
    for (std::int64_t i = 0; by_channel && i < 4; ++i) {
      const auto channel = static_cast<std::size_t>(i);
      at::Tensor plane = unscaled.select(1, i);
      plane.copy_(latents.select(1, i) * folder.vae.latents_std[channel] / folder.vae.scaling_factor +
                  folder.vae.latents_mean[channel]);
    }
    const at::Tensor made = decode(vae, latents, 0).contiguous(),
                     expected = vae.decode(unscaled).contiguous();
    EXPECT_LE(relative_difference(values_of(made), values_of(expected)), 1e-5) << by_channel;
  }
}

}  // namespace
}  // namespace muster::diffusion
