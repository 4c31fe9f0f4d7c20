// SPDX-License-Identifier: Apache-2.0
// Optimizers, schedules and the loss scaler against courses of the originals (generate_fixtures.py).
#include "muster/training/optimizer.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "muster/core/env.h"
#include "muster/core/error.h"
#include "muster/formats/json.h"
#include "muster/training/loss_scaler.h"
#include "muster/training/schedule.h"
#include "training/update_kernels.h"

namespace muster::training {
namespace {

formats::JsonValue fixture(const std::string& name) {
  return formats::read_json(core::env("MUSTER_SOURCE_DIR").value_or(".") + "/tests/training/fixtures/" +
                            name);
}

at::Tensor first_weights(std::int64_t count) {
  at::Tensor out = at::empty({count});
  for (std::int64_t i = 0; i < count; ++i)
    out.data_ptr<float>()[i] = static_cast<float>(static_cast<double>(i * 7919 % 2001 + 500) / 1000);
  return out;
}

at::Tensor gradients(std::int64_t count, std::int64_t step) {
  at::Tensor out = at::zeros({count});
  for (std::int64_t i = 0; i < count; ++i) {
    if (i % 13 == 0) continue;
    const double value = static_cast<double>((i * 7919 + step * 104729) % 2001 - 1000) / 1000 *
                         std::pow(10.0, static_cast<double>(i % 5 * 2 - 6));
    out.data_ptr<float>()[i] = static_cast<float>(value);
  }
  return out;
}

/// Each error relative to its own size: the value expected, or what it is made of.
double worst_error(const at::Tensor& values, const std::vector<double>& expected,
                   const std::vector<double>& sizes) {
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(static_cast<double>(values.const_data_ptr<float>()[i]) - expected[i]);
    worst = std::max(worst, error / std::max(std::abs(sizes[i]), 1e-30));
  }
  return worst;
}

TEST(Optimizer, TwentyUpdatesLikeTheOriginals) {
  const auto json = fixture("optimizer.json");
  const auto count = json.get<std::int64_t>("weights");
  std::size_t cases = 0;
  for (const auto& expected : json.at("cases").elements()) {
    SCOPED_TRACE(expected.get<std::string>("kind") + " " + std::to_string(cases++));
    OptimizerConfig config;
    config.kind = optimizer_kind_from_name(expected.get<std::string>("kind"));
    config.learning_rate = expected.get<double>("learning_rate");
    config.beta1 = expected.get<double>("beta1");
    config.beta2 = expected.get<double>("beta2");
    config.epsilon = expected.get<double>("epsilon");
    config.weight_decay = expected.get<double>("weight_decay");
    // A factor of the gradient that the test undoes: exact, since it is a power of two.
    UpdateRange range{first_weights(count), at::zeros({count}), at::zeros({count}), {}, true};
    for (std::int64_t step = 0; step < json.get<std::int64_t>("steps"); ++step) {
      range.gradient = gradients(count, step).mul_(1024);
      update(config, {static_cast<std::uint64_t>(step) + 1, config.learning_rate, 1.0 / 1024}, range);
    }
    const auto weights = expected.at("weights").as_list<double>(),
               average = expected.at("exp_avg").as_list<double>(),
               square = expected.at("exp_avg_sq").as_list<double>();
    auto usual_gradient = square;  // the average of gradients of both signs may be far smaller than they are
    for (double& value : usual_gradient) value = std::sqrt(value);
    EXPECT_LT(worst_error(range.parameters, weights, weights), 1e-6);
    EXPECT_LT(worst_error(range.first_moment, average, usual_gradient), 1e-6);
    EXPECT_LT(worst_error(range.second_moment, square, square), 1e-6);
  }
  EXPECT_EQ(cases, 6u);
}

TEST(Optimizer, NoDecayWhereARangeHasNone) {
  for (const auto kind : {OptimizerKind::kAdamW, OptimizerKind::kAdamWHf}) {
    OptimizerConfig config;
    config.kind = kind;
    config.weight_decay = 0.5;
    for (const bool decays : {true, false}) {
      UpdateRange range{at::ones({3}), at::zeros({3}), at::zeros({3}), at::zeros({3}), decays};
      update(config, {1, 0.5, 1}, range);
      EXPECT_TRUE(range.parameters.equal(at::full({3}, decays ? 0.75 : 1.0)));
    }
  }
}

TEST(Optimizer, SumsOfSquaresAreInDoubleAndShowWhatIsNotFinite) {
  std::vector<float> values(1001, 1e30f);
  EXPECT_DOUBLE_EQ(sum_of_squares(values.data(), values.size()),
                   1001 * static_cast<double>(1e30f) * static_cast<double>(1e30f));
  values.assign(3, 1e-45f);
  EXPECT_GT(sum_of_squares(values.data(), values.size()), 0);
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::size_t place : {std::size_t{0}, std::size_t{12}, std::size_t{1000}}) {
      std::vector<float> with_one(1001, 1.0f);
      with_one[place] = bad;
      EXPECT_FALSE(std::isfinite(sum_of_squares(with_one.data(), with_one.size())));
    }
  }
}

TEST(Optimizer, RefusesWhatCannotTrain) {
  const auto with = [](double OptimizerConfig::*member, double value) {
    OptimizerConfig config;
    config.*member = value;
    return config;
  };
  EXPECT_NO_THROW(OptimizerConfig().validate());
  for (const auto& config :
       {with(&OptimizerConfig::learning_rate, -1), with(&OptimizerConfig::learning_rate, NAN),
        with(&OptimizerConfig::beta1, 1), with(&OptimizerConfig::beta2, -0.1),
        with(&OptimizerConfig::beta2, NAN), with(&OptimizerConfig::epsilon, 0),
        with(&OptimizerConfig::weight_decay, INFINITY)}) {
    EXPECT_THROW(config.validate(), core::ConfigError);
  }
  EXPECT_THROW(optimizer_kind_from_name("sgd"), core::ConfigError);
}

TEST(Schedule, FactorsLikeTransformers) {
  std::size_t cases = 0;
  for (const auto& expected : fixture("schedule.json").at("cases").elements()) {
    const ScheduleConfig config{schedule_kind_from_name(expected.get<std::string>("kind")),
                                expected.get<std::uint64_t>("warmup"), expected.get<std::uint64_t>("total")};
    config.validate();
    const auto factors = expected.at("factors").as_list<double>();
    for (std::size_t step = 0; step < factors.size(); ++step)
      EXPECT_NEAR(factor(config, step), factors[step], 1e-15) << "case " << cases << " step " << step;
    ++cases;
  }
  EXPECT_EQ(cases, 15u);
  EXPECT_EQ(factor({ScheduleKind::kCosine, 2, 10}, 15), 0) << "it does not rise again";
  EXPECT_EQ(factor({ScheduleKind::kLinear, 2, 10}, 15), 0);
  EXPECT_THROW((ScheduleConfig{ScheduleKind::kLinear, 11, 10}.validate()), core::ConfigError);
  EXPECT_THROW(schedule_kind_from_name("step"), core::ConfigError);
}

TEST(LossScaler, MovesLikeGradScaler) {
  const auto json = fixture("loss_scaler.json");
  const auto listed = json.at("overflows").as_list<std::uint64_t>();
  const std::set<std::uint64_t> overflows(listed.begin(), listed.end());
  LossScalerConfig config;
  config.enabled = true;
  config.growth_interval = json.get<std::uint64_t>("growth_interval");
  LossScaler scaler(config);
  const auto scales = json.at("scales").as_list<double>();
  ASSERT_EQ(scales.size(), 60u);
  for (std::size_t step = 0; step < scales.size(); ++step) {
    EXPECT_EQ(scaler.scale(), scales[step]) << "step " << step;
    scaler.update(overflows.contains(step) ? LossScaler::Outcome::kOverflow : LossScaler::Outcome::kFinite);
    LossScaler restored(config);  // a checkpoint at every step changes nothing
    restored.restore(scaler.state());
    scaler = restored;
  }
}

TEST(LossScaler, Bounds) {
  LossScalerConfig config;
  config.enabled = true;
  config.initial_scale = 4;
  config.minimum_scale = 1.5;
  config.growth_interval = 1;
  LossScaler scaler(config);
  EXPECT_FALSE(scaler.at_minimum());
  for (int i = 0; i < 5; ++i) scaler.update(LossScaler::Outcome::kOverflow);
  EXPECT_EQ(scaler.scale(), 1.5);
  EXPECT_TRUE(scaler.at_minimum());
  for (int i = 0; i < 300; ++i) scaler.update(LossScaler::Outcome::kFinite);
  EXPECT_TRUE(std::isfinite(static_cast<float>(scaler.scale())));
  EXPECT_FALSE(std::isfinite(static_cast<float>(scaler.scale() * 2)));

  LossScaler off(LossScalerConfig{});
  off.update(LossScaler::Outcome::kOverflow);
  EXPECT_EQ(off.scale(), 1);
  EXPECT_TRUE(off.at_minimum());
  config.backoff_factor = 1;
  EXPECT_THROW(LossScaler{config}, core::ConfigError);
}

}  // namespace
}  // namespace muster::training
