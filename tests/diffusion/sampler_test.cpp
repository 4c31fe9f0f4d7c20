// SPDX-License-Identifier: Apache-2.0
// Samplers against diffusers' schedulers, with a model in closed form (generate_samplers.py).
#include "diffusion/sampler.h"

#include <ATen/TensorOperators.h>

#include <map>

#include "muster/core/error.h"
#include "muster/diffusion/text_to_image.h"
#include "support.h"

namespace muster::diffusion {
namespace {

at::Tensor model(const at::Tensor& x, float time) {
  return at::sin(x * 0.7 + static_cast<double>(time) * 0.003) * 0.8 + at::cos(x) * 0.1;
}

struct Inputs {
  at::Tensor noise, added;
};

at::Tensor run(Sampler& sampler, const Inputs& inputs) {
  at::Tensor x = inputs.noise * sampler.initial_scale();
  for (std::size_t call = 0; call < sampler.times().size(); ++call) {
    const at::Tensor output = model(sampler.model_input(x, call), sampler.times()[call]);
    x = sampler.step(output, x, call,
                     [&](std::size_t i) { return inputs.added[static_cast<std::int64_t>(i)]; });
  }
  return x;
}

SchedulerConfig config_of(const std::string& scheduler, const std::string& json,
                          const std::string& sampler = "") {
  return read_scheduler(
      {formats::parse_json(json, "scheduler_config.json"), scheduler, SchedulerHome::kStableDiffusionXL},
      sampler);
}

TEST(Samplers, EqualTheReference) {
  constexpr double kTolerance = 2e-5;
  // Where the first sigma is 4096, a bit of it (LibTorch's square root may miss the last) is 2e-4 of the
  // result.
  constexpr double kFromZeroSnr = 1e-3;
  const auto file = formats::Safetensors::open(fixture("samplers/expected.safetensors"));
  const Inputs inputs{tensor_of(file, "noise"), tensor_of(file, "added")};
  const auto cases = formats::read_json(fixture("samplers/cases.json"));
  ASSERT_GT(cases.size(), 500U);
  std::map<std::string, double> largest;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto entry = cases.element(i);
    const auto scheduler = entry.get<std::string>("scheduler");
    const auto steps = entry.get<std::uint32_t>("steps");
    const auto config =
        read_scheduler({entry.at("config"), scheduler, SchedulerHome::kStableDiffusionXL}, "");
    const at::Tensor expected = tensor_of(file, std::to_string(i));
    try {
      const auto sampler = make_sampler(config, steps);
      const at::Tensor x = run(*sampler, inputs);
      const double difference = relative_difference(values_of(x), values_of(expected));
      largest[scheduler] = std::max(largest[scheduler], difference);
      const bool euler = config.kind == SamplerKind::kEuler || config.kind == SamplerKind::kEulerAncestral;
      EXPECT_LE(difference, euler && config.zero_terminal_snr ? kFromZeroSnr : kTolerance)
          << "case " << i << ": " << scheduler << ", " << steps << " steps";
    } catch (const core::Error& error) {
      ADD_FAILURE() << "case " << i << ": " << scheduler << ", " << steps << " steps: " << error.what();
    }
  }
  for (const auto& [scheduler, difference] : largest)
    fmt::print("{}: largest difference {:.1e} of the largest value\n", scheduler, difference);
}

// As the reference's: a level beside the last training step would be taken for the step before it.
TEST(Samplers, LuLevelsBeginAndEndAtTrainingSteps) {
  const auto config = config_of("DPMSolverMultistepScheduler",
                                R"({"use_lu_lambdas": true, "beta_schedule": "squaredcos_cap_v2"})");
  EXPECT_EQ(make_sampler(config, 7)->times(), (std::vector<float>{999, 998, 994, 942, 476, 41, 0}));
}

TEST(Samplers, ASampleDoesNotDependOnItsBatch) {
  const auto file = formats::Safetensors::open(fixture("samplers/expected.safetensors"));
  const Inputs both{tensor_of(file, "noise"), tensor_of(file, "added")};
  for (const std::string& name : sampler_names()) {
    const bool flow = name == "flow_euler";
    const auto config =
        config_of(flow ? "FlowMatchEulerDiscreteScheduler" : "DDIMScheduler", R"({"steps_offset": 1})", name);
    const at::Tensor together = run(*make_sampler(config, 5), both);
    for (std::int64_t i = 0; i < 2; ++i) {
      const Inputs one{both.noise.narrow(0, i, 1).contiguous(), both.added.narrow(1, i, 1).contiguous()};
      EXPECT_TRUE(at::equal(run(*make_sampler(config, 5), one)[0], together[i])) << name;
    }
  }
}

struct Refusal {
  const char* scheduler;
  const char* json;
  const char* sampler;
  const char* says;
};

class Refusals : public testing::TestWithParam<Refusal> {};

TEST_P(Refusals, NameWhatIsWrong) {
  const Refusal& p = GetParam();
  try {
    make_sampler(config_of(p.scheduler, p.json, p.sampler), 20);
    FAIL() << "taken: " << p.json;
  } catch (const core::Error& error) {
    EXPECT_NE(std::string(error.what()).find(p.says), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, Refusals,
    testing::Values(
        Refusal{"LCMScheduler", "{}", "", "LCMScheduler"},
        Refusal{"DDIMScheduler", "{}", "dpm2m", "dpmpp_2m"},
        Refusal{"DDIMScheduler", "{}", "flow_euler", "without flow matching"},
        Refusal{"FlowMatchEulerDiscreteScheduler", "{}", "euler", "flow_euler"},
        Refusal{"FlowMatchEulerDiscreteScheduler", R"({"use_dynamic_shifting": true})", "",
                "use_dynamic_shifting"},
        Refusal{"FlowMatchEulerDiscreteScheduler", R"({"stochastic_sampling": true})", "",
                "stochastic_sampling"},
        Refusal{"FlowMatchEulerDiscreteScheduler", R"({"invert_sigmas": true})", "", "invert_sigmas"},
        Refusal{"FlowMatchEulerDiscreteScheduler", R"({"shift": 0})", "", "shift"},
        Refusal{"FlowMatchEulerDiscreteScheduler", R"({"shift_terminal": 1.5})", "", "shift_terminal"},
        Refusal{"DDIMScheduler", R"({"thresholding": true})", "", "thresholding"},
        Refusal{"UniPCMultistepScheduler", R"({"thresholding": true})", "", "thresholding"},
        Refusal{"UniPCMultistepScheduler", R"({"use_flow_sigmas": true})", "", "use_flow_sigmas"},
        Refusal{"UniPCMultistepScheduler", R"({"solver_p": "DDIMScheduler"})", "", "solver_p"},
        Refusal{"UniPCMultistepScheduler", R"({"solver_order": 4})", "", "solver_order"},
        Refusal{"UniPCMultistepScheduler", R"({"lower_order_final": false})", "", "lower_order_final"},
        Refusal{"DPMSolverMultistepScheduler", R"({"variance_type": "learned"})", "", "variance_type"},
        Refusal{"DPMSolverMultistepScheduler", R"({"algorithm_type": "dpmsolver"})", "", "algorithm_type"},
        Refusal{"DPMSolverMultistepScheduler", R"({"use_karras_sigmas": true, "use_lu_lambdas": true})", "",
                "use_lu_lambdas"},
        Refusal{"EulerDiscreteScheduler", R"({"use_beta_sigmas": true})", "", "use_beta_sigmas"},
        Refusal{"EulerDiscreteScheduler", R"({"interpolation_type": "cubic"})", "", "interpolation_type"},
        Refusal{"EulerDiscreteScheduler", R"({"prediction_type": "flow"})", "", "prediction_type"},
        Refusal{"EulerAncestralDiscreteScheduler", R"({"prediction_type": "sample"})", "", "prediction_type"},
        Refusal{"PNDMScheduler", "{}", "", "skip_prk_steps"},
        Refusal{"DDIMScheduler", R"({"prediction_type": "sample"})", "pndm", "prediction_type"},
        Refusal{"DDIMScheduler", R"({"beta_schedule": "sigmoid"})", "", "beta_schedule"},
        Refusal{"DDIMScheduler", R"({"beta_start": -1})", "", "beta_start"},
        Refusal{"DDIMScheduler", R"({"beta_start": "x"})", "", "beta_start"},
        Refusal{"DDIMScheduler", R"({"trained_betas": [0.1, 0.2]})", "", "trained_betas"},
        Refusal{"DDIMScheduler", R"({"trained_betas": [0.1, 2.0], "num_train_timesteps": 2})", "",
                "trained_betas"},
        Refusal{"DDIMScheduler", R"({"num_train_timesteps": 0})", "", "num_train_timesteps"},
        Refusal{"DDIMScheduler", R"({"num_train_timesteps": 10})", "", "num_train_timesteps"},
        Refusal{"DDIMScheduler", R"({"steps_offset": 1000})", "", "steps_offset"},
        Refusal{"DDIMScheduler", R"({"num_train_timesteps": 20, "steps_offset": 1})", "", "fewer steps"},
        Refusal{"DPMSolverMultistepScheduler",
                R"({"num_train_timesteps": 20, "timestep_spacing": "leading"})", "", "fewer steps"},
        Refusal{"DDIMScheduler", R"({"timestep_spacing": "even"})", "", "timestep_spacing"}));

TEST(SchedulerNames, TellTheFoldersOwn) {
  const auto name = [](const char* scheduler, const char* json) {
    return sampler_name_of({formats::parse_json(json, "x"), scheduler, SchedulerHome::kStableDiffusion});
  };
  EXPECT_EQ(name("DDIMScheduler", "{}"), "ddim");
  EXPECT_EQ(name("PNDMScheduler", "{}"), "pndm");
  EXPECT_EQ(name("EulerDiscreteScheduler", R"({"use_karras_sigmas": false})"), "euler");
  EXPECT_EQ(name("EulerDiscreteScheduler", R"({"use_karras_sigmas": true})"), "euler_karras");
  EXPECT_EQ(name("EulerAncestralDiscreteScheduler", "{}"), "euler_a");
  EXPECT_EQ(name("DPMSolverMultistepScheduler", "{}"), "dpmpp_2m");
  EXPECT_EQ(name("DPMSolverMultistepScheduler", R"({"use_karras_sigmas": true})"), "dpmpp_2m_karras");
  EXPECT_EQ(name("DPMSolverMultistepScheduler", R"({"algorithm_type": "sde-dpmsolver++"})"), "dpmpp_2m_sde");
  EXPECT_EQ(name("UniPCMultistepScheduler", R"({"use_karras_sigmas": true})"), "unipc");
  EXPECT_EQ(name("FlowMatchEulerDiscreteScheduler", "{}"), "flow_euler");
  EXPECT_EQ(name("LCMScheduler", "{}"), "");
}

// StableDiffusionPipeline sets two options of its own scheduler, even where the file lacks them.
TEST(SchedulerNames, KeepThePipelinesHabits) {
  const auto read = [](const char* json, const char* sampler, SchedulerHome home) {
    return read_scheduler({formats::parse_json(json, "x"), "DDIMScheduler", home}, sampler);
  };
  constexpr auto kSd = SchedulerHome::kStableDiffusion, kXl = SchedulerHome::kStableDiffusionXL;
  EXPECT_EQ(read("{}", "", kSd).steps_offset, 1);
  EXPECT_EQ(read("{}", "", kXl).steps_offset, 0);
  EXPECT_EQ(read(R"({"steps_offset": 3})", "euler", kSd).steps_offset, 1);
  EXPECT_EQ(read("{}", "euler", kSd).steps_offset, 0);
  EXPECT_FALSE(read("{}", "", kSd).clip_range.has_value());
  EXPECT_TRUE(read("{}", "", kXl).clip_range.has_value());
}

}  // namespace
}  // namespace muster::diffusion
