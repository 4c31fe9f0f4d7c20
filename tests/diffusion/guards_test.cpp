// SPDX-License-Identifier: Apache-2.0
// Pictures that went wrong, from pipelines damaged here, and options that change how a picture is made.
#include <filesystem>
#include <map>

#include "muster/core/error.h"
#include "muster/formats/safetensors_writer.h"
#include "picture_cases.h"
#include "support/job.h"

namespace muster::diffusion {
namespace {

namespace fs = std::filesystem;

using Tensors = std::map<std::string, at::Tensor>;  // fp32

/// A copy of a tiny pipeline with some weights of a component changed.
class DamagedPipeline {
 public:
  DamagedPipeline(const std::string& name, const std::string& component,
                  const std::function<void(Tensors&)>& damage) {
    fs::copy(fixture(name), folder(), fs::copy_options::recursive);
    const std::string path = folder() + "/" + component + "/diffusion_pytorch_model.safetensors";
    Tensors tensors = read(path);
    damage(tensors);
    fs::remove(path);
    write(path, tensors);
  }
  std::string folder() const { return scratch_ / "pipeline"; }

 private:
  static Tensors read(const std::string& path) {
    const auto file = formats::Safetensors::open(path);
    Tensors out;
    for (const std::string& name : file.names()) {
      const auto view = file.find(name);
      at::Tensor half = at::empty({static_cast<std::int64_t>(view->bytes.size() / 2)}, c10::ScalarType::Half);
      std::memcpy(half.data_ptr(), view->bytes.data(), view->bytes.size());
      const std::vector<std::int64_t> shape(view->shape.begin(), view->shape.end());
      out[name] = half.to(c10::ScalarType::Float).reshape(shape);
    }
    return out;
  }

  static void write(const std::string& path, const Tensors& tensors) {
    formats::SafetensorsWriter::Config config{.path = path, .tensors = {}, .metadata = {}};
    for (const auto& [name, tensor] : tensors)
      config.tensors.push_back({name, formats::DType::kF32, {tensor.sizes().begin(), tensor.sizes().end()}});
    formats::SafetensorsWriter writer(config);
    for (const auto& spec : writer.tensors())
      writer.write(spec.name, std::as_bytes(values_of(tensors.at(spec.name))));
    writer.finish();
  }

  test::Scratch scratch_;
};

struct Damage {
  const char* name;
  const char* component;
  models::ComputeType compute_type;
  std::function<void(Tensors&)> damage;
  Verdict verdict;
  bool decoded_again;
};

void paint(Tensors& vae, float red, float green, float blue) {
  vae["decoder.conv_out.weight"].zero_();
  at::Tensor& bias = vae["decoder.conv_out.bias"];
  bias[0] = red;
  bias[1] = green;
  bias[2] = blue;
}

class Guards : public testing::TestWithParam<Damage> {};

TEST_P(Guards, FindBadPictures) {
  const Damage& p = GetParam();
  const DamagedPipeline damaged("sd15", p.component, p.damage);
  PipelineConfig config;
  config.folder = damaged.folder();
  config.compute_type = p.compute_type;
  const auto requests = four_requests("euler");
  for (const Picture& picture : load_text_to_image(config)->run(requests)) {
    EXPECT_EQ(picture.verdict, p.verdict);
    EXPECT_EQ(picture.decoded_again, p.decoded_again);
    EXPECT_EQ(picture.rgb.size(), 24U * 16 * 3);
  }
}

constexpr auto kFp32 = models::ComputeType::kFp32, kBf16 = models::ComputeType::kBf16;

INSTANTIATE_TEST_SUITE_P(
    Table, Guards,
    testing::Values(
        Damage{"sound", "vae", kFp32, [](Tensors&) {}, Verdict::kGood, false},
        Damage{"sound_bf16", "vae", kBf16, [](Tensors&) {}, Verdict::kGood, false},
        Damage{"vae_nan", "vae", kFp32, [](Tensors& t) { t["decoder.conv_out.bias"][1] = NAN; },
               Verdict::kNotFinite, false},
        Damage{"vae_infinite", "vae", kFp32, [](Tensors& t) { t["decoder.conv_out.bias"][2] = INFINITY; },
               Verdict::kNotFinite, false},
        Damage{"unet_nan", "unet", kFp32, [](Tensors& t) { t["conv_out.bias"][0] = NAN; },
               Verdict::kNotFinite, false},
        // The latents are bad: no decoder helps.
        Damage{"unet_nan_bf16", "unet", kBf16, [](Tensors& t) { t["conv_out.bias"][0] = NAN; },
               Verdict::kNotFinite, false},
        Damage{"black", "vae", kFp32, [](Tensors& t) { paint(t, -1, -1, -0.97F); }, Verdict::kBlack, false},
        Damage{"nearly_black", "vae", kFp32, [](Tensors& t) { paint(t, -1, -1, -0.9F); }, Verdict::kFlat,
               false},
        Damage{"flat", "vae", kFp32, [](Tensors& t) { paint(t, 0.3F, -0.2F, 0.9F); }, Verdict::kFlat, false},
        Damage{"still_flat_in_fp32", "vae", kBf16, [](Tensors& t) { paint(t, 0.3F, -0.2F, 0.9F); },
               Verdict::kFlat, true},
        // Beyond the largest bf16 and within fp32: one channel is white, the others carry the picture.
        Damage{"saved_by_fp32", "vae", kBf16, [](Tensors& t) { t["decoder.conv_out.bias"][0] = 3.3975e38F; },
               Verdict::kGood, true}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Adapters, AreMergedOrLiveInEveryOffload) {
  const auto requests = four_requests("euler");
  const auto plain = load("sd15")->run(requests);
  PipelineConfig config = config_of("sd15");
  config.adapters = {
      {test::source_file("tests/models/fixtures/adapters/sd15_kohya/adapter.safetensors"), 0.8}};
  std::vector<Picture> merged;
  for (const Offload offload : {Offload::kNone, Offload::kModel, Offload::kSequential}) {
    config.offload = offload;
    config.adapter_application = AdapterApplication::kMerged;
    const auto pipeline = load_text_to_image(config);
    pipeline->run(requests);
    const auto again = pipeline->run(requests);  // with offload from kept weights
    if (merged.empty()) merged = again;
    config.adapter_application = AdapterApplication::kLive;
    const auto live_pipeline = load_text_to_image(config);
    live_pipeline->run(requests);
    const auto live = live_pipeline->run(requests);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(again[i].latents, merged[i].latents);
      EXPECT_LT(relative_difference(live[i].latents, merged[i].latents), 1e-4);
      EXPECT_GT(relative_difference(plain[i].latents, merged[i].latents), 1e-3);
    }
  }
  const auto description = describe_pipeline(config.folder);
  EXPECT_GT(description.memory(config, 24, 16, 1)[3].second, 100);
}

TEST(Loading, RefusesWhatItCannotDo) {
  PipelineConfig config = config_of("sd15");
  config.compute_type = models::ComputeType::kInt8;
  EXPECT_THROW(load_text_to_image(config), core::ConfigError);
  config = config_of("sd15");
  config.adapters = {{"/nowhere.safetensors", 1}};
  EXPECT_THROW(load_text_to_image(config), core::DataError);
  EXPECT_THROW(load("none"), core::DataError);
}

// What Python's json writes for a solver without a limit.
TEST(Loading, ReadsMinusInfinity) {
  const test::Scratch scratch;
  const std::string folder = scratch / "pipeline";
  fs::copy(fixture("sd15"), folder, fs::copy_options::recursive);
  test::write_text(
      folder + "/scheduler/scheduler_config.json",
      R"({"beta_schedule": "scaled_linear", "note": "a \"-Infinity\"", "lambda_min_clipped": -Infinity})");
  EXPECT_NO_THROW(check_request(describe_pipeline(folder), [] {
    PictureRequest request = small_request(1);
    request.sampler = "dpmpp_2m";
    return request;
  }()));
}

}  // namespace
}  // namespace muster::diffusion
