// SPDX-License-Identifier: Apache-2.0
// The tasks of `train` on pictures: an autoencoder and a text-to-image model, on small coloured squares.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <sstream>

#include "muster/formats/png.h"
#include "muster/formats/safetensors.h"
#include "system.h"

namespace muster::test {
namespace {

constexpr int kPictures = 12;
constexpr std::uint32_t kSide = 16;

const char* color_name(int number) {
  static const char* names[] = {"red", "green", "blue"};
  return names[number % 3];
}

/// A square of one of three colours somewhere on white; captions.csv calls it by colour and size.
void write_pictures(const Scratch& scratch) {
  std::filesystem::create_directories(scratch / "data/pictures");
  std::string captions = "file,name,keywords\n";
  for (int i = 0; i < kPictures; ++i) {
    formats::Image image{.width = kSide, .height = kSide, .channels = 3, .pixels = {}};
    image.pixels.assign(kSide * kSide * 3, 255);
    const std::uint32_t from = 2 + static_cast<std::uint32_t>(i) % 4;
    for (std::uint32_t y = from; y < from + 8; ++y)
      for (std::uint32_t x = from; x < from + 8; ++x)
        for (std::uint32_t c = 0; c < 3; ++c)
          image.pixels[(y * kSide + x) * 3 + c] = c == static_cast<std::uint32_t>(i % 3) ? 220 : 10;
    const auto bytes = formats::encode_png(image);
    write_text(scratch / fmt::format("data/pictures/{}.png", i),
               {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    captions += fmt::format("pictures/{}.png,{} square,{} square | square | {}\n", i, color_name(i),
                            color_name(i), color_name(i));
  }
  write_text(scratch / "data/captions.csv", captions);
}

Command pictures(const Scratch& scratch, const std::string& task, const Command& more = {}) {
  return Command{muster_program(),
                 "train",
                 "--task",
                 task,
                 "-i",
                 scratch / "data/captions.csv",
                 "--id-column",
                 "file",
                 "--text-column",
                 "keywords",
                 "--device",
                 "cpu",
                 "--dtype",
                 "fp32",
                 "--workers",
                 "1",
                 "--losses",
                 "--resolution",
                 "16",
                 "--global-batch",
                 "6",
                 "--warmup",
                 "0",
                 "--lr",
                 "2e-3"} +
         more;
}

Command autoencoder(const Scratch& scratch, const Command& more = {}) {
  return pictures(scratch, "autoencoder",
                  Command{"-o", scratch / "vae"} + more +
                      Command{"--set", "vae.channels=[8,8]", "vae.norm_groups=4", "train.micro_batch=2"});
}

Command text_to_image(const Scratch& scratch, const Command& more = {}, const Command& sets = {}) {
  return pictures(
      scratch, "text_to_image",
      Command{"-o", scratch / "out", "--vae", scratch / "vae/vae"} + more +
          Command{"--set", "unet.channels=[16,16]", "unet.transformers=[0,1]", "unet.head_width=8",
                  "unet.norm_groups=8", "text.hidden=16", "text.layers=1", "text.heads=2", "text.positions=8",
                  "text.vocabulary=530", "train.micro_batch=2", "train.prediction=v",
                  "train.zero_terminal_snr=true", "train.sample_steps=2"} +
          sets);
}

std::vector<double> losses(const std::string& path) {
  std::istringstream lines(read_text(path));
  std::vector<double> values;
  std::string line, cell;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::istringstream cells(line);
    for (int i = 0; i < 4; ++i) std::getline(cells, cell, ',');
    values.push_back(std::stod(cell));
  }
  return values;
}

void expect_near(const std::vector<double>& got, const std::vector<double>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], 1e-4 * std::abs(expected[i])) << "step " << i + 1;
}

const char* const kVae = "vae/vae/diffusion_pytorch_model.safetensors";
const char* const kUnet = "out/pipeline/unet/diffusion_pytorch_model.safetensors";

/// An autoencoder that all tests of the other task share: one epoch is enough for them.
const Scratch& trained_autoencoder() {
  static const Scratch* scratch = [] {
    auto* made = new Scratch;
    write_pictures(*made);
    const auto outcome = run(autoencoder(*made, {"--epochs", "2"}));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    return made;
  }();
  return *scratch;
}

/// A copy of it, where a test may train.
void copy_data(const Scratch& scratch) {
  std::filesystem::copy(trained_autoencoder().path(), scratch.path(),
                        std::filesystem::copy_options::recursive);
}

TEST(TrainPictures, AnAutoencoderLearns) {
  const Scratch scratch;
  write_pictures(scratch);
  const auto outcome = run(autoencoder(scratch, {"--epochs", "40"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const auto curve = losses(scratch / "vae/losses.csv");
  ASSERT_EQ(curve.size(), 80U);
  EXPECT_LT(curve.back(), 0.5 * curve.front());
  EXPECT_TRUE(outcome.contains("latents have a mean")) << outcome.output;
  const auto checkpoint = formats::Safetensors::open(scratch / kVae);
  EXPECT_TRUE(checkpoint.find("encoder.conv_in.weight").has_value());
  EXPECT_TRUE(checkpoint.find("decoder.conv_out.bias").has_value());
  EXPECT_EQ(read_text(scratch / "vae/vae/config.json").find("\"scaling_factor\": 1,"), std::string::npos);
}

TEST(TrainPictures, ReproducibleIsTheSameBytesOnAnyNumberOfRanks) {
  std::string vae, vae_config, unet;
  for (const int ranks : {1, 2, 3}) {
    SCOPED_TRACE(ranks);
    const Scratch scratch;
    copy_data(scratch);
    const auto on_ranks = [&](const Command& command) {
      return ranks == 1 ? command : mpirun(ranks) + command;
    };
    const Command more{"--epochs", "2", "--reproducible"};
    auto outcome = run(on_ranks(autoencoder(scratch, more + Command{"--fresh"})));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
    outcome = run(on_ranks(text_to_image(scratch, more)));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
    if (ranks == 1) {
      vae = read_text(scratch / kVae);
      vae_config = read_text(scratch / "vae/vae/config.json");
      unet = read_text(scratch / kUnet);
      continue;
    }
    EXPECT_TRUE(read_text(scratch / kVae) == vae) << "the autoencoders differ";
    EXPECT_EQ(read_text(scratch / "vae/vae/config.json"), vae_config);
    EXPECT_TRUE(read_text(scratch / kUnet) == unet) << "the UNets differ";
  }
}

TEST(TrainPictures, TheCurveIsThatOfOneRank) {
  std::vector<double> vae, diffusion;
  for (const int ranks : {1, 2}) {
    const Scratch scratch;
    copy_data(scratch);
    const auto on_ranks = [&](const Command& command) {
      return ranks == 1 ? command : mpirun(ranks) + command;
    };
    auto outcome = run(on_ranks(text_to_image(scratch, {"--epochs", "4"})));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
    outcome = run(on_ranks(autoencoder(scratch, {"--epochs", "4", "--fresh"})));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
    if (ranks == 1) {
      vae = losses(scratch / "vae/losses.csv");
      diffusion = losses(scratch / "out/losses.csv");
      continue;
    }
    expect_near(losses(scratch / "vae/losses.csv"), vae);
    expect_near(losses(scratch / "out/losses.csv"), diffusion);
  }
}

TEST(TrainPictures, GoOnExactlyWhereTheyWereKilled) {
  const Command steps{"--epochs", "4"};
  const Command often{"train.checkpoint_steps=3"};
  const Scratch whole;
  copy_data(whole);
  auto outcome = run(text_to_image(whole, steps, often));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const Scratch scratch;
  copy_data(scratch);
  outcome = run(text_to_image(scratch, steps, often), {{"MUSTER_FAULT", "step.begin:0:6:kill"}});
  ASSERT_NE(outcome.exit_code, 0) << outcome.output;
  outcome = run(text_to_image(scratch, steps, often));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(read_text(scratch / kUnet) == read_text(whole / kUnet)) << "the UNets differ";
  EXPECT_EQ(losses(scratch / "out/losses.csv"), losses(whole / "out/losses.csv"));
  // Another picture in the place of one is another input.
  std::filesystem::copy_file(scratch / "data/pictures/1.png", scratch / "data/pictures/0.png",
                             std::filesystem::copy_options::overwrite_existing);
  outcome = run(text_to_image(scratch, steps, often));
  EXPECT_EQ(outcome.exit_code, 5) << outcome.output;
  EXPECT_TRUE(outcome.contains("pictures.sha256")) << outcome.output;
}

TEST(TrainPictures, PromptsAreSplitByCeilingAndARankThatFailsMeetsTheOthers) {
  const Scratch scratch;
  copy_data(scratch);
  // A folder where rank 1 would put its first picture.
  const std::string taken = scratch / "out/samples/epoch_0001_rank_1_sample_00.png";
  std::filesystem::create_directories(taken + "/x");
  const auto outcome =
      run(mpirun(4) + text_to_image(scratch, {"--epochs", "1", "--prompts", "a red square", "a green square",
                                              "a blue square", "square", "a square"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(outcome.contains("rank 1 has no sample pictures of epoch 1")) << outcome.output;
  EXPECT_FALSE(outcome.contains("rank 3 has no sample pictures")) << outcome.output;
  for (const auto& [rank, count] : {std::pair{0, 2}, {2, 1}, {3, 0}})
    for (int number = 0; number < 2; ++number) {
      const auto name = fmt::format("out/samples/epoch_0001_rank_{}_sample_{:02}.png", rank, number);
      EXPECT_EQ(exists(scratch / name), number < count) << name;
    }
  EXPECT_NE(read_text(scratch / "out/manifest.json").find("epoch_0001_rank_0_sample_01.png"),
            std::string::npos);
}

TEST(TrainPictures, ThePipelineDrawsAndIsTrainedOnFrom) {
  const Scratch scratch;
  copy_data(scratch);
  auto outcome =
      run(text_to_image(scratch, {"--epochs", "1", "--prompts", "a red square"}, {"output.dtype=fp16"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_FALSE(outcome.contains("has no sample pictures")) << outcome.output;
  outcome = run({muster_program(), "sample", "--model", scratch / "out/pipeline", "--prompts", "a red square",
                 "--output", scratch / "drawn", "--steps", "2", "--device", "cpu"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  outcome = run(pictures(scratch, "text_to_image",
                         {"-o", scratch / "more", "-m", scratch / "out/pipeline", "--epochs", "1", "--set",
                          "train.prediction=v", "train.zero_terminal_snr=true"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(exists(scratch / "more/pipeline/model_index.json"));
}

struct RefusedCase {
  const char* name;
  Command more;
  int exit_code;
  const char* says;
};

TEST(TrainPictures, RefuseWhatMakesNoSense) {
  const Scratch scratch;
  copy_data(scratch);
  write_text(scratch / "data/pictures/3.png", "no picture");
  const RefusedCase cases[] = {
      {"unknown task", {"--task", "poetry"}, 2, "text_to_image"},
      {"a classifier's key", {"--labels", "x"}, 2, "--labels"},
      {"zero snr of noise", {"--set", "train.prediction=epsilon"}, 2, "train.prediction: v"},
      {"levels", {"--set", "unet.transformers=[1]"}, 2, "unet.transformers"},
      {"template", {"--set", "train.templates=[a picture]"}, 2, "train.templates"},
      {"broken picture", {}, 3, "pictures/3.png"},
  };
  for (const auto& refused : cases) {
    SCOPED_TRACE(refused.name);
    const auto outcome = run(text_to_image(scratch, {}, refused.more));
    EXPECT_EQ(outcome.exit_code, refused.exit_code) << outcome.output;
    EXPECT_TRUE(outcome.contains(refused.says)) << outcome.output;
  }
}

TEST(TrainPictures, PlanCountsTheWeights) {
  const Scratch scratch;
  copy_data(scratch);
  Command command = text_to_image(scratch);
  command[1] = "plan";
  command.insert(command.begin() + 2, {"--job", "train"});
  const auto outcome = run(command);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(outcome.contains("train (text_to_image)")) << outcome.output;
  EXPECT_TRUE(outcome.contains("moving average")) << outcome.output;
}

}  // namespace
}  // namespace muster::test
