// SPDX-License-Identifier: Apache-2.0
// The trainer's layout, its own mistakes, and what happens when ranks cannot be reached.
#include "muster/training/trainer.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <cstring>
#include <future>
#include <memory>

#include "training/layout.h"

namespace muster::training {
namespace {

/// What a test wants to know of a LonelyRank.
struct Loneliness {
  std::promise<void> waits;  ///< set when a call waits for the other rank
  std::promise<void> aborted;
};

/// Pretends to be rank 0 of two; after some calls the other is gone: an error, or, with `loneliness`, a call
/// that waits until it is aborted.
class LonelyRank final : public comm::Backend {
 public:
  explicit LonelyRank(int calls, Loneliness* loneliness = nullptr) : calls_(calls), loneliness_(loneliness) {}
  int rank() const override { return 0; }
  int size() const override { return 2; }
  std::string name() const override { return "lonely"; }
  void barrier() override { call(); }
  void broadcast(comm::Buffer, int) override { call(); }
  void all_reduce(comm::Buffer, comm::Op, comm::Accumulate) override { call(); }
  void all_gather(comm::ConstBuffer, comm::Buffer) override { call(); }
  void gatherv(comm::ConstBuffer, comm::Buffer, std::span<const std::uint64_t>, int) override { call(); }
  void scatterv(comm::ConstBuffer, std::span<const std::uint64_t>, comm::Buffer, int) override { call(); }
  void all_to_allv(comm::ConstBuffer, std::span<const std::uint64_t>, comm::Buffer receive,
                   std::span<const std::uint64_t>) override {
    call();
    std::memset(receive.data, 0, receive.bytes());
  }
  void send(comm::ConstBuffer, int, int) override { call(); }
  void receive(comm::Buffer, int, int) override { call(); }
  std::optional<int> probe(int) override { return std::nullopt; }
  std::unique_ptr<comm::Backend> duplicate() override { return std::make_unique<LonelyRank>(calls_); }
  std::unique_ptr<comm::Backend> split(int, int) override { return duplicate(); }
  void abort(const std::string&) noexcept override {
    if (loneliness_ == nullptr) std::abort();
    loneliness_->aborted.set_value();
  }

 private:
  void call() {
    if (calls_-- > 0) return;
    if (loneliness_ != nullptr) {
      loneliness_->waits.set_value();
      loneliness_->aborted.get_future().wait();
    }
    throw core::CommError("the other rank is gone");
  }
  int calls_;
  Loneliness* loneliness_;
};

std::vector<ParameterSpec> parameters() {
  return {{"a", {100, 100}, true}, {"b", {3}, false}, {"c", {5000}, true}};
}

std::vector<at::Tensor> zeros() {
  std::vector<at::Tensor> out;
  for (const auto& parameter : parameters()) out.push_back(at::zeros(parameter.shape));
  return out;
}

TrainerConfig small_buckets(std::vector<int> slots) {
  TrainerConfig config;
  config.slots = std::move(slots);
  config.bucket_bytes = 1;
  return config;
}

Trainer make(const TrainerConfig& config, int calls) {
  return Trainer(parameters(), zeros(), config, comm::Communicator(std::make_unique<LonelyRank>(calls)));
}

void add_all(Trainer& trainer) {
  for (std::size_t p = parameters().size(); p-- > 0;)
    trainer.add_gradient(0, p, at::ones(parameters()[p].shape), More::kNo);
}

TEST(TrainerThread, ItsErrorsComeOutOfEndStep) {
  // Two buckets: two exchanges, the norm's sums, two spreadings.
  for (int calls = 0; calls < 5; ++calls) {
    SCOPED_TRACE(calls);
    Trainer trainer = make(small_buckets({1, 1}), calls);
    trainer.begin_step();
    add_all(trainer);
    EXPECT_THROW(trainer.end_step(), core::CommError);
    EXPECT_EQ(trainer.steps(), 0u);
  }
  Trainer trainer = make(small_buckets({1, 1}), 5);
  trainer.begin_step();
  add_all(trainer);
  trainer.end_step();
  EXPECT_EQ(trainer.steps(), 1u);
  EXPECT_NO_THROW(trainer.begin_step());
}

TEST(TrainerThread, AStepMayBeGivenUp) {
  for (const bool with_some : {false, true}) {
    Trainer trainer = make(small_buckets({1, 1}), 100);
    trainer.begin_step();
    if (with_some) trainer.add_gradient(0, 2, at::ones({5000}), More::kNo);
  }  // the thread waits for gradients, not for ranks
}

TEST(TrainerThread, AStepGivenUpWhileRanksExchangeEndsTheJob) {
  for (const int calls : {0, 1, 2}) {
    Loneliness loneliness;
    auto trainer =
        std::make_unique<Trainer>(parameters(), zeros(), small_buckets({1, 1}),
                                  comm::Communicator(std::make_unique<LonelyRank>(calls, &loneliness)));
    trainer->begin_step();
    add_all(*trainer);
    loneliness.waits.get_future().wait();
    trainer.reset();  // comes back because the call was aborted
  }
}

TEST(TrainerCalls, MistakesAreNoticed) {
  Trainer trainer = make(small_buckets({1, 1}), 100);
  const at::Tensor gradient = at::ones({3});
  EXPECT_THROW(trainer.end_step(), core::InternalError) << "no step";
  trainer.begin_step();
  EXPECT_THROW(trainer.begin_step(), core::InternalError);
  EXPECT_THROW(trainer.add_gradient(1, 1, gradient, More::kNo), core::InternalError)
      << "the other rank's slot";
  EXPECT_THROW(trainer.add_gradient(0, 3, gradient, More::kNo), core::InternalError);
  EXPECT_THROW(trainer.add_gradient(0, 1, at::ones({1}), More::kNo), core::InternalError)
      << "it would be broadcast";
  trainer.add_gradient(0, 1, gradient, More::kYes);
  trainer.add_gradient(0, 1, gradient, More::kNo);
  EXPECT_THROW(trainer.add_gradient(0, 1, gradient, More::kNo), core::InternalError);
  EXPECT_THROW(trainer.end_step(), core::InternalError) << "others are missing";
  EXPECT_THROW(trainer.gather_masters(), core::InternalError);
  EXPECT_THROW(trainer.save("nowhere"), core::InternalError);
  EXPECT_THROW(trainer.load("nowhere"), core::InternalError);

  for (const auto& slots : std::vector<std::vector<int>>{{1}, {0, 0}, {1, -1}})
    EXPECT_THROW(make(small_buckets(slots), 0), core::InternalError);
  auto config = small_buckets({1, 1});
  config.clip_norm = -1;
  EXPECT_THROW(make(config, 0), core::ConfigError);
}

/// Every element has one owner, whatever the buckets and ranks, and blocks are never cut.
TEST(Layout, SlicesTileTheBuckets) {
  std::vector<ParameterSpec> specs;
  for (const std::int64_t rows : {7, 4096, 1, 0, 100000, 31, 0}) specs.push_back({"p", {rows}, true});
  std::int64_t elements = -1;
  for (const int ranks : {1, 2, 3, 7, 64}) {
    for (const std::int64_t bucket : {1, 5000, 50000, 10000000}) {
      SCOPED_TRACE(std::to_string(ranks) + " ranks, buckets of " + std::to_string(bucket));
      const Layout layout(specs, bucket, ranks);
      if (elements < 0) elements = layout.elements();
      EXPECT_EQ(layout.elements(), elements) << "places do not depend on ranks or buckets";
      std::int64_t place = 0, own = 0;
      for (std::size_t b = 0; b < layout.buckets(); ++b) {
        EXPECT_EQ(layout.bucket(b).begin, place);
        EXPECT_EQ(layout.own_begin(b), own);
        for (int r = 0; r < ranks; ++r) {
          EXPECT_EQ(layout.slice(b, r).begin, place);
          EXPECT_EQ(layout.slice(b, r).count() % kBlock, 0);
          place = layout.slice(b, r).end;
        }
        EXPECT_EQ(layout.bucket(b).end, place);
        own += layout.slice_elements(b);
      }
      EXPECT_EQ(layout.padded_elements(), place);
      EXPECT_EQ(layout.own_elements(), own);
      EXPECT_GE(place, elements);
      EXPECT_LT(place, elements + ranks * kBlock);
      for (std::size_t p = 0; p < specs.size(); ++p) {
        const Range range = layout.parameter(p);
        EXPECT_EQ(range.count(), specs[p].shape[0]);
        EXPECT_EQ(range.begin % 32, 0);
        const auto [first, last] = layout.buckets_of(p);
        EXPECT_LT(last, layout.buckets());
        if (range.count() == 0) continue;
        EXPECT_GE(range.begin, layout.bucket(first).begin);
        EXPECT_LT(range.begin, layout.bucket(first).end);
        EXPECT_LE(range.end, layout.bucket(last).end);
        EXPECT_GT(range.end, layout.bucket(last).begin);
        EXPECT_EQ(layout.parameter_at(range.begin), p);
        EXPECT_EQ(layout.parameter_at(range.end - 1), p);
      }
    }
  }
}

}  // namespace
}  // namespace muster::training
