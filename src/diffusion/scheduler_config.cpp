// SPDX-License-Identifier: Apache-2.0
#include "diffusion/scheduler_config.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <span>

#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/diffusion/text_to_image.h"

namespace muster::diffusion {
namespace {

using formats::JsonValue;

struct SchedulerClass {
  const char* name;
  SamplerKind kind;
};
constexpr std::array<SchedulerClass, 7> kClasses{{
    {"DDIMScheduler", SamplerKind::kDdim},
    {"PNDMScheduler", SamplerKind::kPndm},
    {"EulerDiscreteScheduler", SamplerKind::kEuler},
    {"EulerAncestralDiscreteScheduler", SamplerKind::kEulerAncestral},
    {"DPMSolverMultistepScheduler", SamplerKind::kDpmSolver},
    {"UniPCMultistepScheduler", SamplerKind::kUniPc},
    {"FlowMatchEulerDiscreteScheduler", SamplerKind::kFlowEuler},
}};

/// Options that a name sets beside its class.
enum class Extra : std::uint8_t { kNone, kKarras, kSde };
struct Named {
  const char* name;
  SamplerKind kind;
  Extra extra;
};
constexpr std::array<Named, 10> kNamed{{
    {"ddim", SamplerKind::kDdim, Extra::kNone},
    {"pndm", SamplerKind::kPndm, Extra::kNone},
    {"euler", SamplerKind::kEuler, Extra::kNone},
    {"euler_karras", SamplerKind::kEuler, Extra::kKarras},
    {"euler_a", SamplerKind::kEulerAncestral, Extra::kNone},
    {"dpmpp_2m", SamplerKind::kDpmSolver, Extra::kNone},
    {"dpmpp_2m_karras", SamplerKind::kDpmSolver, Extra::kKarras},
    {"dpmpp_2m_sde", SamplerKind::kDpmSolver, Extra::kSde},
    {"unipc", SamplerKind::kUniPc, Extra::kNone},
    {"flow_euler", SamplerKind::kFlowEuler, Extra::kNone},
}};

const SchedulerClass* find_class(const std::string& name) {
  for (const SchedulerClass& one : kClasses)
    if (name == one.name) return &one;
  return nullptr;
}

const Named* find_named(const std::string& name) {
  for (const Named& one : kNamed)
    if (name == one.name) return &one;
  return nullptr;
}

SamplerKind own_kind(const SchedulerSource& source) {
  if (const SchedulerClass* found = find_class(source.class_name)) return found->kind;
  std::vector<std::string> known;
  for (const SchedulerClass& one : kClasses) known.emplace_back(one.name);
  source.config.fail(
      fmt::format("belongs to a {}, which is not supported; supported: {} (sample.sampler names "
                  "another one for the same model)",
                  source.class_name, core::join(known, ", ")));
}

/// One of several words.
template <class T, std::size_t N>
T choose(const JsonValue& config, const char* key, const std::array<std::pair<const char*, T>, N>& words,
         T fallback) {
  const auto value = config.find(key);
  if (!value || value->is_null()) return fallback;
  const auto word = value->as<std::string>();
  std::vector<std::string> known;
  for (const auto& [name, meaning] : words) {
    if (word == name) return meaning;
    known.emplace_back(name);
  }
  value->fail(fmt::format("is '{}'; supported: {}", word, core::join(known, ", ")));
}

bool is_set(const JsonValue& config, const char* key) {
  const auto value = config.find(key);
  if (!value || value->is_null()) return false;
  return !value->is_bool() || value->as<bool>();
}

void refuse(const JsonValue& config, std::span<const char* const> keys) {
  for (const char* key : keys)
    if (is_set(config, key))
      config.at(key).fail(
          "is set, which is not supported here; sample.sampler may name a sampler without it");
}

std::optional<double> optional_number(const JsonValue& config, const char* key) {
  const auto value = config.find(key);
  if (!value || value->is_null()) return std::nullopt;
  return value->as<double>();
}

double positive(const JsonValue& config, const char* key, double fallback) {
  const double value = config.get_or(key, fallback);
  if (!(value > 0) || !std::isfinite(value)) config.at(key).fail("is not above 0");
  return value;
}

void read_betas(const JsonValue& config, SchedulerConfig& out) {
  constexpr std::array<std::pair<const char*, BetaSchedule>, 3> kWords{
      {{"linear", BetaSchedule::kLinear},
       {"scaled_linear", BetaSchedule::kScaledLinear},
       {"squaredcos_cap_v2", BetaSchedule::kSquaredCosine}}};
  out.beta_start = positive(config, "beta_start", out.beta_start);
  out.beta_end = positive(config, "beta_end", out.beta_end);
  if (out.beta_start >= 1 || out.beta_end >= 1) config.fail("has beta_start or beta_end at 1 or above");
  out.beta_schedule = choose(config, "beta_schedule", kWords, out.beta_schedule);
  out.zero_terminal_snr = config.get_or("rescale_betas_zero_snr", false);
  const auto trained = config.find("trained_betas");
  if (!trained || trained->is_null()) return;
  out.trained_betas = trained->as_list<float>();
  if (out.trained_betas.size() != out.train_steps)
    trained->fail(
        fmt::format("has {} elements, num_train_timesteps is {}", out.trained_betas.size(), out.train_steps));
  for (const float beta : out.trained_betas)
    if (!(beta > 0 && beta < 1)) trained->fail("has an element outside (0, 1)");
}

void read_prediction(const JsonValue& config, SchedulerConfig& out) {
  constexpr std::array<std::pair<const char*, Prediction>, 3> kWords{{{"epsilon", Prediction::kEpsilon},
                                                                      {"v_prediction", Prediction::kVelocity},
                                                                      {"sample", Prediction::kSample}}};
  out.prediction = choose(config, "prediction_type", kWords, out.prediction);
  const bool without_sample = out.kind == SamplerKind::kPndm || out.kind == SamplerKind::kEulerAncestral;
  if (out.prediction == Prediction::kSample && without_sample)
    config.at("prediction_type")
        .fail(
            "is 'sample', which PNDM and Euler ancestral are not defined for; use ddim, euler, dpmpp_2m or "
            "unipc");
}

void read_spacing(const JsonValue& config, SchedulerConfig& out) {
  constexpr std::array<std::pair<const char*, Spacing>, 3> kWords{
      {{"leading", Spacing::kLeading}, {"trailing", Spacing::kTrailing}, {"linspace", Spacing::kLinspace}}};
  const bool by_time = out.kind == SamplerKind::kDdim || out.kind == SamplerKind::kPndm;
  out.spacing = choose(config, "timestep_spacing", kWords, by_time ? Spacing::kLeading : Spacing::kLinspace);
  out.steps_offset = config.get_or<std::int64_t>("steps_offset", 0);
  if (out.steps_offset < 0 || out.steps_offset >= out.train_steps)
    config.at("steps_offset").fail("is not between 0 and num_train_timesteps - 1");
}

void read_sigmas(const JsonValue& config, SchedulerConfig& out) {
  constexpr std::array<std::pair<const char*, FinalSigma>, 2> kWords{
      {{"zero", FinalSigma::kZero}, {"sigma_min", FinalSigma::kSmallest}}};
  out.final_sigma = choose(config, "final_sigmas_type", kWords, out.final_sigma);
  const std::array<std::pair<const char*, Sigmas>, 3> spread{
      {{"use_karras_sigmas", Sigmas::kKarras},
       {"use_exponential_sigmas", Sigmas::kExponential},
       {"use_lu_lambdas", Sigmas::kLu}}};
  for (const auto& [key, meaning] : spread) {
    if (!is_set(config, key)) continue;
    if (meaning == Sigmas::kLu && out.kind != SamplerKind::kDpmSolver) continue;
    if (out.sigmas != Sigmas::kTraining)
      config.at(key).fail("is set beside another way to spread sigmas; set one");
    out.sigmas = meaning;
  }
  out.sigma_min = optional_number(config, "sigma_min");
  out.sigma_max = optional_number(config, "sigma_max");
  if ((out.sigma_min && !(*out.sigma_min > 0)) || (out.sigma_max && !(*out.sigma_max > 0)))
    config.fail("has a sigma_min or sigma_max that is not above 0");
  constexpr std::array<const char*, 1> kRefused{"use_beta_sigmas"};
  refuse(config, kRefused);
}

void read_by_time(const JsonValue& config, SchedulerConfig& out) {
  const bool ddim = out.kind == SamplerKind::kDdim;
  out.alpha_to_one = config.get_or("set_alpha_to_one", ddim);
  if (!ddim) {
    out.zero_terminal_snr = false;  // a key that PNDM does not have
    return;
  }
  if (config.get_or("clip_sample", true)) out.clip_range = config.get_or("clip_sample_range", 1.0);
  constexpr std::array<const char*, 1> kRefused{"thresholding"};
  refuse(config, kRefused);
}

void read_euler(const JsonValue& config, SchedulerConfig& out) {
  constexpr std::array<std::pair<const char*, bool>, 2> kInterpolations{
      {{"linear", false}, {"log_linear", true}}};
  constexpr std::array<std::pair<const char*, bool>, 2> kTimes{{{"discrete", false}, {"continuous", true}}};
  read_sigmas(config, out);
  out.log_linear = choose(config, "interpolation_type", kInterpolations, false);
  out.continuous_times =
      choose(config, "timestep_type", kTimes, false) && out.prediction == Prediction::kVelocity;
}

void read_solver(const JsonValue& config, SchedulerConfig& out) {
  read_sigmas(config, out);
  constexpr std::array<const char*, 5> kRefused{"thresholding", "use_flow_sigmas", "use_dynamic_shifting",
                                                "solver_p", "variance_type"};
  refuse(config, kRefused);
  out.solver_order = config.get_or<std::uint32_t>("solver_order", 2);
  const bool dpm = out.kind == SamplerKind::kDpmSolver;
  if (out.solver_order < 1 || out.solver_order > 3) config.at("solver_order").fail("is not 1, 2 or 3");
  out.lower_order_final = config.get_or("lower_order_final", true);
  if (!dpm) {
    constexpr std::array<std::pair<const char*, SolverType>, 5> kWords{{{"bh1", SolverType::kBh1},
                                                                        {"bh2", SolverType::kBh2},
                                                                        {"midpoint", SolverType::kBh2},
                                                                        {"heun", SolverType::kBh2},
                                                                        {"logrho", SolverType::kBh2}}};
    out.solver_type = choose(config, "solver_type", kWords, SolverType::kBh2);
    out.predict_sample = config.get_or("predict_x0", true);
    if (const auto disabled = config.find("disable_corrector"); disabled && !disabled->is_null())
      out.disable_corrector = disabled->as_list<std::int64_t>();
    return;
  }
  constexpr std::array<std::pair<const char*, SolverType>, 5> kWords{{{"midpoint", SolverType::kMidpoint},
                                                                      {"heun", SolverType::kHeun},
                                                                      {"logrho", SolverType::kMidpoint},
                                                                      {"bh1", SolverType::kMidpoint},
                                                                      {"bh2", SolverType::kMidpoint}}};
  constexpr std::array<std::pair<const char*, Algorithm>, 3> kAlgorithms{
      {{"dpmsolver++", Algorithm::kOde}, {"sde-dpmsolver++", Algorithm::kSde}, {"deis", Algorithm::kOde}}};
  out.solver_type = choose(config, "solver_type", kWords, SolverType::kMidpoint);
  out.algorithm = choose(config, "algorithm_type", kAlgorithms, Algorithm::kOde);
  out.euler_at_final = config.get_or("euler_at_final", false);
  out.lambda_min_clipped = config.get_or("lambda_min_clipped", out.lambda_min_clipped);
}

void read_flow(const JsonValue& config, SchedulerConfig& out) {
  constexpr std::array<const char*, 4> kRefused{"use_dynamic_shifting", "invert_sigmas",
                                                "stochastic_sampling", "use_lu_lambdas"};
  refuse(config, kRefused);
  read_sigmas(config, out);
  out.shift = positive(config, "shift", 1);
  out.shift_terminal = optional_number(config, "shift_terminal");
  if (out.shift_terminal == 0) out.shift_terminal.reset();
  if (out.shift_terminal && !(*out.shift_terminal > 0 && *out.shift_terminal < 1))
    config.at("shift_terminal").fail("is not between 0 and 1");
}

/// What StableDiffusionPipeline does to the config of its own scheduler: without the key the class's default
/// is replaced too.
void set_house_rules(const SchedulerSource& source, bool own, SchedulerConfig& out) {
  if (source.home != SchedulerHome::kStableDiffusion) return;
  if (own || source.config.has("steps_offset")) out.steps_offset = 1;
  if (own || source.config.has("clip_sample")) out.clip_range.reset();
}

SchedulerConfig read_as(const SchedulerSource& source, SamplerKind kind) {
  const JsonValue& config = source.config;
  SchedulerConfig out;
  out.kind = kind;
  out.train_steps = config.get_or<std::uint32_t>("num_train_timesteps", 1000);
  if (out.train_steps < 2 || out.train_steps > 1'000'000)
    config.at("num_train_timesteps").fail("is not between 2 and 1000000");
  if (kind == SamplerKind::kFlowEuler) {
    read_flow(config, out);
    return out;
  }
  read_betas(config, out);
  read_prediction(config, out);
  read_spacing(config, out);
  switch (kind) {
    case SamplerKind::kDdim:
    case SamplerKind::kPndm:
      read_by_time(config, out);
      break;
    case SamplerKind::kEuler:
      read_euler(config, out);
      break;
    case SamplerKind::kDpmSolver:
    case SamplerKind::kUniPc:
      read_solver(config, out);
      break;
    default:
      break;
  }
  set_house_rules(source, find_class(source.class_name) && find_class(source.class_name)->kind == kind, out);
  return out;
}

const Named& named_or_throw(const std::string& sampler) {
  if (const Named* named = find_named(sampler)) return *named;
  const auto names = sampler_names();
  const auto near = core::nearest(sampler, names);
  throw core::ConfigError(fmt::format("sampler '{}' is not known{}; known: {}", core::printable(sampler),
                                      near ? fmt::format(" (did you mean '{}'?)", *near) : "",
                                      core::join(names, ", ")));
}

}  // namespace

std::vector<std::string> sampler_names() {
  std::vector<std::string> names;
  for (const Named& one : kNamed) names.emplace_back(one.name);
  return names;
}

std::string sampler_name_of(const SchedulerSource& source) {
  const SchedulerClass* own = find_class(source.class_name);
  if (own == nullptr) return "";
  const bool karras = is_set(source.config, "use_karras_sigmas");
  const bool sde = own->kind == SamplerKind::kDpmSolver &&
                   source.config.get_or<std::string>("algorithm_type", "") == "sde-dpmsolver++";
  const Extra extra = sde ? Extra::kSde : karras ? Extra::kKarras : Extra::kNone;
  std::string plain;
  for (const Named& one : kNamed) {
    if (one.kind != own->kind) continue;
    if (one.extra == extra) return one.name;
    if (one.extra == Extra::kNone) plain = one.name;
  }
  return plain;
}

SchedulerConfig read_scheduler(const SchedulerSource& source, const std::string& sampler) {
  if (sampler.empty()) {
    const SamplerKind kind = own_kind(source);
    if (kind == SamplerKind::kPndm && !source.config.get_or("skip_prk_steps", false))
      source.config.fail(
          "has no skip_prk_steps: true; PNDM is supported without its Runge-Kutta steps alone "
          "(sample.sampler: pndm leaves them out)");
    return read_as(source, kind);
  }
  const Named& named = named_or_throw(sampler);
  const SchedulerClass* own = find_class(source.class_name);
  const bool flows = own != nullptr && own->kind == SamplerKind::kFlowEuler;
  if (flows != (named.kind == SamplerKind::kFlowEuler))
    throw core::ConfigError(
        fmt::format("sampler '{}' does not fit this model, which was trained {} flow matching; {}", sampler,
                    flows ? "by" : "without", flows ? "use flow_euler" : "use any other"));
  SchedulerConfig config = read_as(source, named.kind);
  if (named.extra == Extra::kKarras) config.sigmas = Sigmas::kKarras;
  if (named.extra == Extra::kSde) config.algorithm = Algorithm::kSde;
  return config;
}

}  // namespace muster::diffusion
