// SPDX-License-Identifier: Apache-2.0
// Whole pipelines against diffusers (generate_pictures.py), and what every pipeline promises.
#include "muster/diffusion/text_to_image.h"

#include <map>

#include "muster/core/error.h"
#include "picture_cases.h"
#include "support/job.h"

namespace muster::diffusion {
namespace {

class PipelineTest : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Folders, PipelineTest, testing::Values("sd15", "sd2", "sdxl"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(PipelineTest, EqualsTheReference) {
  const PictureCases cases(GetParam());
  const auto pipeline = load(GetParam());
  std::map<std::string, double> latents;
  int pixels = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const PictureRequest request = cases.request(i);
    const Picture picture = pipeline->run({&request, 1}).at(0);
    const double difference = relative_difference(picture.latents, values_of(cases.latents(i)));
    auto& largest = latents[request.sampler.empty() ? "(own)" : request.sampler];
    largest = std::max(largest, difference);
    EXPECT_LE(difference, 1e-4) << "case " << i << ", sampler " << request.sampler << ", " << request.steps;
    const int apart = largest_step(picture, cases.picture(i));
    pixels = std::max(pixels, apart);
    EXPECT_LE(apart, 1) << "case " << i;
    EXPECT_EQ(picture.verdict, Verdict::kGood) << "case " << i;
  }
  for (const auto& [sampler, difference] : latents)
    fmt::print("{} {}: largest difference of latents {:.1e} of the largest value\n", GetParam(), sampler,
               difference);
  fmt::print("{}: largest difference of pictures {}/255\n", GetParam(), pixels);
}

// Noise from outside is the same as that of the seed, when it is the same.
TEST_P(PipelineTest, TakesInitialNoise) {
  const auto pipeline = load(GetParam());
  PictureRequest request = small_request(3);
  const Picture from_seed = pipeline->run({&request, 1}).at(0);
  std::vector<float> noise(from_seed.latents.size());
  fill_noise(request.seed, 0, noise);
  request.latents = noise;
  EXPECT_EQ(pipeline->run({&request, 1}).at(0).rgb, from_seed.rgb);
  request.seed = 99;
  EXPECT_EQ(pipeline->run({&request, 1}).at(0).rgb, from_seed.rgb);
  noise[0] += 1;
  EXPECT_NE(pipeline->run({&request, 1}).at(0).rgb, from_seed.rgb);
}

TEST_P(PipelineTest, APictureDoesNotDependOnItsBatch) {
  for (const char* sampler : {"", "euler_a"}) {
    const auto pipeline = load(GetParam());
    const auto requests = four_requests(sampler);
    std::vector<Picture> alone;
    for (const PictureRequest& request : requests)
      alone.push_back(load(GetParam())->run({&request, 1}).at(0));
    for (std::size_t count = 2; count <= requests.size(); ++count) {
      const auto together = pipeline->run(std::span(requests).last(count));
      for (std::size_t i = 0; i < count; ++i) {
        const Picture& expected = alone[requests.size() - count + i];
        EXPECT_EQ(together[i].rgb, expected.rgb) << count << " together, picture " << i;
        EXPECT_EQ(together[i].latents, expected.latents) << count << " together, picture " << i;
      }
    }
  }
}

TEST_P(PipelineTest, WorkersOffloadAndVaeBatchesMakeTheSamePictures) {
  const auto requests = four_requests("");
  const auto pipeline = load(GetParam());
  const auto expected = pipeline->run(requests);
  PipelineConfig config = config_of(GetParam());
  config.vae_batch = 3;
  for (const Offload offload : {Offload::kNone, Offload::kModel, Offload::kSequential}) {
    config.offload = offload;
    const auto other = load_text_to_image(config);
    const auto worker = other->make_worker();
    for (int turn = 0; turn < 2; ++turn)
      for (TextToImage* one : {other.get(), worker.get()}) {
        const auto made = one->run(requests);
        for (std::size_t i = 0; i < made.size(); ++i)
          EXPECT_EQ(made[i].rgb, expected[i].rgb) << i << " " << static_cast<int>(offload);
      }
    other->release_memory();
    EXPECT_EQ(other->run(requests)[0].rgb, expected[0].rgb);
  }
}

// Above its size the VAE works in tiles: the same latents, a slightly different picture; below it nothing
// changes.
TEST_P(PipelineTest, TilesTheVae) {
  const auto requests = four_requests("");
  const auto expected = load(GetParam())->run(requests);
  PipelineConfig config = config_of(GetParam());
  config.vae_tile = 24;  // a side of the pictures
  EXPECT_EQ(load_text_to_image(config)->run(requests)[0].rgb, expected[0].rgb);
  config.vae_tile = 12;
  const auto tiled = load_text_to_image(config)->run(requests);
  EXPECT_EQ(tiled[0].latents, expected[0].latents);
  EXPECT_NE(tiled[0].rgb, expected[0].rgb);
  EXPECT_EQ(tiled[0].rgb.size(), expected[0].rgb.size());
}

TEST_P(PipelineTest, CountsAndCutsLongPrompts) {
  const auto pipeline = load(GetParam());
  const PromptLength none = pipeline->prompt_length(""), some = pipeline->prompt_length("a cat"),
                     many = pipeline->prompt_length(long_prompt());
  EXPECT_EQ(none.tokens, 2U);
  EXPECT_EQ(none.most, 77U);
  EXPECT_GT(some.tokens, 2U);
  EXPECT_LT(some.tokens, 12U);
  EXPECT_GT(many.tokens, 154U);
  // What is cut decides nothing; in chunks it does.
  std::vector<PictureRequest> requests{small_request(1), small_request(1)};
  requests[0].prompt = long_prompt();
  requests[1].prompt = long_prompt() + " a fish";
  const auto cut = pipeline->run(requests);
  EXPECT_EQ(cut[0].rgb, cut[1].rgb);
  PipelineConfig config = config_of(GetParam());
  config.long_prompt = LongPrompt::kChunk;
  const auto chunked = load_text_to_image(config)->run(requests);
  EXPECT_NE(chunked[0].latents, chunked[1].latents);
  EXPECT_NE(chunked[0].latents, cut[0].latents);
}

// A short prompt is the same in either way, also beside a long one.
TEST_P(PipelineTest, ChunksLeaveShortPromptsAlone) {
  PipelineConfig config = config_of(GetParam());
  config.long_prompt = LongPrompt::kChunk;
  std::vector<PictureRequest> requests{small_request(1), small_request(2), small_request(3)};
  requests[1].prompt = long_prompt();
  const auto mixed = load_text_to_image(config)->run(requests);
  const auto plain = load(GetParam());
  for (const std::size_t i : {0, 2}) EXPECT_EQ(mixed[i].rgb, plain->run({&requests[i], 1}).at(0).rgb);
}

TEST_P(PipelineTest, DescribesItself) {
  const auto description = describe_pipeline(fixture(GetParam()));
  const std::map<std::string, std::string> own{{"sd15", "pndm"}, {"sd2", "ddim"}, {"sdxl", "euler"}};
  EXPECT_EQ(description.sampler, own.at(GetParam()));
  EXPECT_EQ(description.factor, 2U);
  EXPECT_EQ(description.latent_channels, 4U);
  EXPECT_EQ(description.default_width, 32U);
  const auto memory = description.memory(config_of(GetParam()), 32, 32, 2);
  ASSERT_EQ(memory.size(), 5U);
  for (const std::size_t part : {0, 1, 2, 4}) EXPECT_GT(memory[part].second, 1000) << memory[part].first;
  EXPECT_EQ(memory[3].first, "adapters");
  EXPECT_EQ(memory[3].second, 0);
  EXPECT_GT(description.memory(config_of(GetParam()), 32, 32, 4)[4].second, memory[4].second);
  PictureRequest request = small_request(1);
  const double flops = description.flops(request);
  request.steps *= 2;
  EXPECT_GT(description.flops(request), 1.2 * flops);
  EXPECT_LT(description.flops(request), 2.01 * flops);
  const auto files = pipeline_files(fixture(GetParam()));
  EXPECT_TRUE(std::ranges::is_sorted(files));
  EXPECT_NE(std::ranges::find(files, "unet/diffusion_pytorch_model.safetensors"), files.end());
}

struct BadRequest {
  const char* says;
  std::function<void(PictureRequest&)> spoil;
};

TEST(CheckRequest, SaysWhy) {
  const auto description = describe_pipeline(fixture("sd15"));
  EXPECT_NO_THROW(check_request(description, small_request(1)));
  static const std::vector<float> kFew(5);
  const std::vector<BadRequest> table{
      {"width 25 is not a multiple of 2", [](auto& r) { r.width = 25; }},
      {"height 0", [](auto& r) { r.height = 0; }},
      {"above", [](auto& r) { r.height = 1 << 20; }},
      {"1 to 1000", [](auto& r) { r.steps = 0; }},
      {"1 to 1000", [](auto& r) { r.steps = 1001; }},
      {"fewer steps", [](auto& r) { r.steps = 1000; }},
      {"did you mean 'euler'", [](auto& r) { r.sampler = "eular"; }},
      {"guidance", [](auto& r) { r.guidance = -1; }},
      {"guidance", [](auto& r) { r.guidance = NAN; }},
      {"guidance_rescale", [](auto& r) { r.guidance_rescale = 1.5; }},
      {"5 latents", [](auto& r) { r.latents = kFew; }},
  };
  for (const BadRequest& bad : table) {
    PictureRequest request = small_request(1);
    bad.spoil(request);
    try {
      check_request(description, request);
      ADD_FAILURE() << "taken: " << bad.says;
    } catch (const core::ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(bad.says), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace muster::diffusion
