// SPDX-License-Identifier: Apache-2.0
// The same training on however many ranks this runs and on one; every rank alone makes the reference.
#include "muster/training/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "muster/core/half.h"
#include "support.h"
#include "support/mpi_test.h"
#include "temporary_folder.h"

namespace muster::training {
namespace {

using test::Course;

constexpr auto kFloat = c10::ScalarType::Float;
constexpr auto kBFloat16 = c10::ScalarType::BFloat16;
constexpr auto kHalf = c10::ScalarType::Half;

comm::Communicator world() {
  return test::session_world().duplicate();
}
int rank() {
  return test::session_world().rank();
}

/// Five slots over the ranks, unevenly; with two ranks or more one of them has none.
std::vector<int> uneven_slots(int ranks) {
  switch (ranks) {
    case 1:
      return {5};
    case 2:
      return {0, 5};
    case 3:
      return {2, 0, 3};
    default: {
      std::vector<int> slots(static_cast<std::size_t>(ranks), 0);
      slots[0] = 1;
      slots[2] = 3;
      slots[3] = 1;
      return slots;
    }
  }
}

TrainerConfig toy_config(int ranks) {
  TrainerConfig config;
  config.optimizer.learning_rate = 1e-2;
  config.schedule = {ScheduleKind::kLinear, 1, 20};
  config.slots = uneven_slots(ranks);
  config.summation = Summation::kSlots;
  config.bucket_bytes = 20000;  // several buckets, cut within parameters
  return config;
}

Trainer make_trainer(const TrainerConfig& config, comm::Communicator communicator) {
  return Trainer(test::toy_parameters(), test::toy_weights(), config, std::move(communicator));
}

struct Outcome {
  std::vector<at::Tensor> masters, weights;
  std::vector<StepReport> reports;
};

Outcome outcome_of(Trainer& trainer, std::vector<StepReport> reports) {
  Outcome out{trainer.gather_masters(), {}, std::move(reports)};
  for (const at::Tensor& weight : trainer.weights()) out.weights.push_back(weight.clone());
  return out;
}

Outcome run_on(const Course& course, comm::Communicator communicator) {
  const int own_rank = communicator.rank();
  Trainer trainer = make_trainer(course.config, std::move(communicator));
  auto reports = test::train(trainer, course, own_rank);
  return outcome_of(trainer, std::move(reports));
}

/// The same slots, all on this rank.
Course alone(Course course) {
  int all = 0;
  for (const int slots : course.config.slots) all += slots;
  course.config.slots = {all};
  return course;
}

void expect_same(const Outcome& got, const Outcome& expected) {
  EXPECT_TRUE(test::same_bits(got.weights, expected.weights));
  if (rank() == 0) {
    EXPECT_TRUE(test::same_bits(got.masters, expected.masters));
  } else {
    EXPECT_TRUE(got.masters.empty());
  }
  ASSERT_EQ(got.reports.size(), expected.reports.size());
  for (std::size_t i = 0; i < got.reports.size(); ++i) {
    const double norm = got.reports[i].gradient_norm, expected_norm = expected.reports[i].gradient_norm;
    EXPECT_TRUE(norm == expected_norm || (std::isnan(norm) && std::isnan(expected_norm))) << "step " << i;
    EXPECT_EQ(got.reports[i].learning_rate, expected.reports[i].learning_rate) << "step " << i;
    EXPECT_EQ(got.reports[i].loss_scale, expected.reports[i].loss_scale) << "step " << i;
    EXPECT_EQ(got.reports[i].skipped, expected.reports[i].skipped) << "step " << i;
    EXPECT_EQ(got.reports[i].first_non_finite, expected.reports[i].first_non_finite) << "step " << i;
  }
}

comm::Communicator only_me() {
  return test::session_world().split(rank(), 0);
}

struct Types {
  c10::ScalarType compute, wire, gradient;
  std::uint64_t parts;
  OptimizerKind optimizer;
};

class SameBits : public testing::TestWithParam<Types> {};
INSTANTIATE_TEST_SUITE_P(Types, SameBits,
                         testing::Values(Types{kFloat, kFloat, kFloat, 1, OptimizerKind::kAdamW},
                                         Types{kFloat, kFloat, kBFloat16, 3, OptimizerKind::kAdamWHf},
                                         Types{kBFloat16, kBFloat16, kBFloat16, 1, OptimizerKind::kAdamW},
                                         Types{kBFloat16, kBFloat16, kFloat, 2, OptimizerKind::kAdamWHf},
                                         Types{kHalf, kFloat, kHalf, 1, OptimizerKind::kAdamW}));

TEST_P(SameBits, OnAnyNumberOfRanksWhenSlotsAreSummed) {
  Course course{toy_config(world().size())};
  course.config.compute_dtype = GetParam().compute;
  course.config.wire_dtype = GetParam().wire;
  course.config.optimizer.kind = GetParam().optimizer;
  course.gradient_dtype = GetParam().gradient;
  course.parts = GetParam().parts;
  const Outcome got = run_on(course, world()), expected = run_on(alone(course), only_me());
  expect_same(got, expected);

  // Buckets are how gradients travel, not what comes out.
  course.config.bucket_bytes = 1;
  expect_same(run_on(course, world()), expected);
  course.config.bucket_bytes = std::uint64_t{1} << 30;
  expect_same(run_on(course, world()), expected);
}

/// All of it in double, parameter by parameter.
std::vector<at::Tensor> reference(const Course& course, int slots, std::vector<double>& norms) {
  const auto& optimizer = course.config.optimizer;
  std::vector<at::Tensor> p, m, v;
  for (const auto& weight : test::toy_weights()) {
    p.push_back(weight.to(c10::ScalarType::Double));
    m.push_back(at::zeros_like(p.back()));
    v.push_back(at::zeros_like(p.back()));
  }
  for (std::uint64_t step = 0; step < course.steps; ++step) {
    std::vector<at::Tensor> sums;
    double squares = 0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      sums.push_back(at::zeros_like(p[i]));
      for (int slot = 0; slot < slots; ++slot)
        for (std::uint64_t part = 0; part < course.parts; ++part)
          sums[i].add_(test::toy_gradient(step, static_cast<std::uint64_t>(slot), part, i));
      squares += sums[i].square().sum().item<double>();
    }
    norms.push_back(std::sqrt(squares));
    const double clip = std::min(1.0, course.config.clip_norm / (norms.back() + 1e-6));
    const double rate = optimizer.learning_rate * factor(course.config.schedule, step);
    const auto t = static_cast<double>(step + 1);
    const double c1 = 1 - std::pow(optimizer.beta1, t), c2 = 1 - std::pow(optimizer.beta2, t);
    for (std::size_t i = 0; i < p.size(); ++i) {
      const at::Tensor g = sums[i].mul(clip);
      m[i].mul_(optimizer.beta1).add_(g, 1 - optimizer.beta1);
      v[i].mul_(optimizer.beta2).addcmul_(g, g, 1 - optimizer.beta2);
      if (test::toy_parameters()[i].decays) p[i].mul_(1 - rate * optimizer.weight_decay);
      p[i].addcdiv_(m[i], v[i].div(c2).sqrt_().add_(optimizer.epsilon), -rate / c1);
    }
  }
  return p;
}

TEST(Trainer, AgreesWithAPlainReference) {
  for (const Summation summation : {Summation::kRanks, Summation::kSlots}) {
    for (const auto wire : {kFloat, kBFloat16}) {
      Course course{toy_config(world().size())};
      course.steps = 5;
      course.parts = 2;
      course.config.summation = summation;
      course.config.wire_dtype = wire;
      std::vector<double> norms;
      const auto expected = reference(course, 5, norms);
      const Outcome got = run_on(course, world());
      const double tolerance = wire == kFloat ? 1e-6 : 1e-2;
      for (std::size_t i = 0; i < norms.size(); ++i)
        EXPECT_NEAR(got.reports[i].gradient_norm, norms[i], tolerance * norms[i]);
      for (std::size_t i = 0; i < got.masters.size(); ++i) {
        if (expected[i].numel() == 0) continue;
        const at::Tensor error = got.masters[i].sub(expected[i]).abs();
        if (wire == kFloat) {
          EXPECT_LT(error.max().item<double>(), 1e-5) << test::toy_parameters()[i].name;
        } else {  // where a sum nearly cancels, its sign may turn
          EXPECT_LT(error.mean().item<double>(), 1e-3) << test::toy_parameters()[i].name;
        }
      }
    }
  }
}

TEST(Trainer, MicroBatchesAreRoundedOnce) {
  Course course{toy_config(world().size())};
  course.config.wire_dtype = kBFloat16;
  course.config.clip_norm = 0;
  course.steps = 1;
  course.parts = 3;
  course.gradient_dtype = kBFloat16;
  double squares = 0;
  for (std::size_t p = 0; p < test::toy_parameters().size(); ++p) {
    at::Tensor sum = at::zeros(test::toy_parameters()[p].shape);
    for (std::uint64_t slot = 0; slot < 5; ++slot) {
      at::Tensor of_slot = at::zeros_like(sum);
      for (std::uint64_t part = 0; part < 3; ++part)
        of_slot.add_(test::toy_gradient(0, slot, part, p).to(kBFloat16).to(kFloat));
      sum.add_(of_slot.to(kBFloat16).to(kFloat));
    }
    squares += sum.to(c10::ScalarType::Double).square().sum().item<double>();
  }
  EXPECT_NEAR(run_on(course, world()).reports[0].gradient_norm, std::sqrt(squares),
              1e-12 * std::sqrt(squares));
}

TEST(Trainer, AnUndefinedGradientIsZero) {
  Course course{toy_config(world().size())};
  course.parts = 2;
  Course zeros = course;
  // One slot has none at all for one parameter, one has none in some parts.
  const auto lacks = [](std::uint64_t step, std::uint64_t slot, std::size_t p) {
    return p == 5 ? slot == 1 : p == 0 && (slot + step) % 2 == 0;
  };
  course.change = [&](auto step, auto slot, auto p, at::Tensor& gradient) {
    if (lacks(step, slot, p)) gradient = at::Tensor();
  };
  zeros.change = [&](auto step, auto slot, auto p, at::Tensor& gradient) {
    if (lacks(step, slot, p)) gradient.zero_();
  };
  expect_same(run_on(course, world()), run_on(alone(zeros), only_me()));
}

TEST(Trainer, OverflowsAreSkippedByAll) {
  Course course{toy_config(world().size())};
  course.config.compute_dtype = kHalf;
  course.config.loss_scaler.enabled = true;
  course.config.loss_scaler.initial_scale = 8;
  course.config.loss_scaler.growth_interval = 2;
  course.steps = 6;
  course.change = [](std::uint64_t step, std::uint64_t slot, std::size_t p, at::Tensor& gradient) {
    if (slot == 3 && p == 1 && (step == 1 || step == 2))
      gradient[10][7] =
          step == 1 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  };
  const Outcome got = run_on(course, world());
  const std::vector<bool> skipped{false, true, true, false, false, false};
  const std::vector<double> scales{8, 8, 4, 2, 2, 4};
  for (std::size_t i = 0; i < skipped.size(); ++i) {
    EXPECT_EQ(got.reports[i].skipped, skipped[i]) << "step " << i;
    EXPECT_EQ(got.reports[i].loss_scale, scales[i]) << "step " << i;
    EXPECT_EQ(got.reports[i].first_non_finite, "");
    EXPECT_EQ(std::isfinite(got.reports[i].gradient_norm), !skipped[i]);
  }
  // The schedule stood still, too.
  EXPECT_EQ(got.reports[3].learning_rate, course.config.optimizer.learning_rate);
  expect_same(got, run_on(alone(course), only_me()));
}

TEST(Trainer, NothingButTheStepsThatWereMadeMoveTheWeights) {
  Course course{toy_config(world().size())};
  course.steps = 2;
  course.change = [](std::uint64_t step, std::uint64_t slot, std::size_t p, at::Tensor& gradient) {
    if (step == 0 && slot == 0 && p == 5) gradient[149][150] = std::numeric_limits<float>::infinity();
    if (step == 0 && slot == 2 && p == 0) gradient[3][2] = std::numeric_limits<float>::quiet_NaN();
  };
  Trainer trainer = make_trainer(course.config, world());
  course.steps = 1;
  const auto report = test::train(trainer, course, rank()).front();
  EXPECT_TRUE(report.skipped);
  EXPECT_EQ(report.first_non_finite, "wide") << "the one that backward reaches first";
  EXPECT_EQ(trainer.steps(), 0u);
  EXPECT_TRUE(test::same_bits(trainer.weights(), test::toy_weights()));
  course.first_step = 1;
  EXPECT_FALSE(test::train(trainer, course, rank()).front().skipped);
  EXPECT_EQ(trainer.steps(), 1u);
}

TEST(Trainer, ClippingBoundsTheGradient) {
  // With plain numbers: one parameter, whose gradient is 3 in one slot of each of the ranks that have some.
  TrainerConfig config;
  config.slots = std::vector<int>(static_cast<std::size_t>(world().size()), 1);
  config.optimizer.epsilon = 1;
  config.optimizer.learning_rate = 1;
  config.optimizer.weight_decay = 0;
  const double norm = 3.0 * world().size() * 2;  // four elements
  for (const double clip : {0.0, 0.5, 1e9}) {
    config.clip_norm = clip;
    const std::vector<at::Tensor> initial{at::zeros({4})};
    Trainer trainer({{"w", {4}, true}}, initial, config, world());
    trainer.begin_step();
    trainer.add_gradient(0, 0, at::full({4}, 3.0f), More::kNo);
    const StepReport report = trainer.end_step();
    EXPECT_NEAR(report.gradient_norm, norm, 1e-5);
    EXPECT_GT(report.exchange_wait_seconds, 0);
    EXPECT_GT(report.update_seconds, 0);
    const double g = clip == 0.5 ? norm / 2 * clip / (norm + 1e-6) : norm / 2;
    EXPECT_NEAR(trainer.weights()[0][1].item<double>(), -g / (g + 1),
                1e-6);  // the first update's m / c1 is g
  }
}

TEST(TrainerFiles, ContinueOnAnyNumberOfRanks) {
  for (const auto compute : {kFloat, kBFloat16}) {
    Course course{toy_config(world().size())};
    course.config.compute_dtype = compute;
    course.config.loss_scaler.enabled = true;
    course.config.loss_scaler.growth_interval = 2;
    course.steps = 3;
    course.change = [](std::uint64_t step, std::uint64_t slot, std::size_t p, at::Tensor& gradient) {
      if (step == 1 && slot == 4 && p == 0) gradient[0][0] = std::numeric_limits<float>::infinity();
    };
    const test::SharedFolder folder;
    Trainer trainer = make_trainer(course.config, world());
    test::train(trainer, course, rank());
    EXPECT_TRUE(std::filesystem::exists(folder.path() + "/" + trainer.save(folder.path())));
    world().barrier();
    course.first_step = 3;
    auto reports = test::train(trainer, course, rank());
    EXPECT_EQ(trainer.steps(), 5u);
    const Outcome expected = outcome_of(trainer, std::move(reports));

    for (int ranks = 1; ranks <= world().size(); ++ranks) {
      SCOPED_TRACE("on " + std::to_string(ranks));
      auto some = test::session_world().split(rank() < ranks ? 0 : -1, rank());
      if (!some) continue;
      Course rest = course;
      rest.config.slots = uneven_slots(ranks);
      rest.config.bucket_bytes = 33333;
      Trainer other = make_trainer(rest.config, some.duplicate());
      other.load(folder.path());
      EXPECT_EQ(other.steps(), 2u);
      expect_same(outcome_of(other, test::train(other, rest, some.rank())), expected);
    }
  }
}

TEST(TrainerAverage, FollowsItsFormula) {
  // One weight that every update moves: a += (1 - min(decay, (1 + n) / (10 + n))) (w - a).
  TrainerConfig config;
  config.optimizer.learning_rate = 0.5;
  config.average_decay = 0.3;  // the warm-up's bound counts for the first three updates
  const std::vector<at::Tensor> first{at::full({1}, 2.0F)};
  Trainer trainer({{"w", {1}, false}}, first, config, only_me());
  double average = 2;
  for (int n = 1; n <= 6; ++n) {
    trainer.begin_step();
    trainer.add_gradient(0, 0, at::full({1}, n % 2 == 0 ? -1.0F : 3.0F), More::kNo);
    trainer.end_step();
    const double share = 1 - std::min(0.3, (1.0 + n) / (10.0 + n));
    average += share * (trainer.gather_masters()[0].item<double>() - average);
    EXPECT_NEAR(trainer.gather_averages()[0].item<double>(), average, 1e-6) << "update " << n;
  }
  EXPECT_GT(std::abs(trainer.gather_masters()[0].item<double>() - average), 1e-3)
      << "the weight did not move";
}

TEST(TrainerFiles, TheMovingAverageGoesOnToo) {
  Course course{toy_config(test::session_world().size())};
  course.steps = 4;
  course.config.average_decay = 0.9;
  // Four updates on one rank, against two, a checkpoint, and two more on all of them.
  std::vector<at::Tensor> expected;
  {
    Course one = alone(course);
    Trainer trainer = make_trainer(one.config, only_me());
    test::train(trainer, one, 0);
    expected = trainer.gather_averages();
  }
  const test::SharedFolder folder;
  course.steps = 2;
  {
    Trainer trainer = make_trainer(course.config, world());
    test::train(trainer, course, rank());
    trainer.save(folder.path());
    world().barrier();
  }
  Trainer trainer = make_trainer(course.config, world());
  trainer.load(folder.path());
  course.first_step = 2;
  test::train(trainer, course, rank());
  const auto got = trainer.gather_averages();
  if (rank() == 0) {
    EXPECT_TRUE(test::same_bits(got, expected));
  }
  // A state without an average is no state of a trainer that keeps one.
  TrainerConfig without = course.config;
  without.average_decay = 0;
  Trainer other = make_trainer(without, world());
  EXPECT_THROW(other.load(folder.path()), core::DataError);
}

TEST(TrainerFiles, DamageIsNoticedOnAllRanks) {
  const test::SharedFolder folder;
  const TrainerConfig config = toy_config(world().size());
  Trainer trainer = make_trainer(config, world());
  trainer.save(folder.path());
  const int last = world().size() - 1;
  const std::string victim = folder.path() + "/trainer_0000" + std::to_string(last) + ".safetensors";
  const auto good = folder.read(victim);
  const auto expect_error = [&](const std::string& what, const std::string& part) {
    SCOPED_TRACE(what);
    world().barrier();
    try {
      trainer.load(folder.path());
      ADD_FAILURE() << "no error";
    } catch (const core::DataError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
    world().barrier();
    folder.write(victim, good);
  };
  folder.write(victim, good.substr(0, good.size() - 1));
  expect_error("cut", "the file");
  auto flipped = good;
  flipped[good.size() - 5] ^= 1;
  folder.write(victim, flipped);
  expect_error("a bit of the data", "does not match its CRC");
  flipped = good;
  flipped[good.find("steps") + 8] ^= 1;
  folder.write(victim, flipped);
  expect_error("a bit of the header", "its header does not match its CRC");
  folder.write(victim, "");
  expect_error("empty", "too few");
  if (rank() == 0) std::filesystem::remove(victim);
  expect_error("missing", "cannot open");
  trainer.load(folder.path());

  auto renamed = test::toy_parameters();
  renamed[2].name = "another";
  Trainer other(renamed, test::toy_weights(), config, world());
  EXPECT_THROW(other.load(folder.path()), core::DataError);
  if (world().size() == 1) return;
  // A file of another update among them.
  Course course{config};
  course.steps = 1;
  test::train(trainer, course, rank());
  const test::SharedFolder later;
  trainer.save(later.path());
  world().barrier();
  folder.write(victim, folder.read(later.path() + "/" + std::filesystem::path(victim).filename().string()));
  expect_error("another state", "belongs to another state");
}

TEST(Trainer, TellsItsMemory) {
  Course course{toy_config(world().size())};
  course.config.compute_dtype = kBFloat16;
  course.config.wire_dtype = kBFloat16;
  Trainer trainer = make_trainer(course.config, world());
  std::int64_t elements = 0;
  for (const auto& weight : trainer.weights()) elements += weight.numel();
  const auto memory = trainer.memory();
  ASSERT_EQ(memory.size(), 4u);
  EXPECT_EQ(memory[0].first, "weights");
  EXPECT_GE(memory[0].second, 2.0 * static_cast<double>(elements));
  EXPECT_EQ(memory[2].second, 2 * memory[1].second);
  EXPECT_GE(memory[1].second * world().size(), 4.0 * static_cast<double>(elements));
  EXPECT_LT(memory[1].second * world().size(), 4.0 * static_cast<double>(elements) + 4 * 4096 * 4 * 2);
}

}  // namespace
}  // namespace muster::training
