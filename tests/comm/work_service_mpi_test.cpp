// SPDX-License-Identifier: Apache-2.0
#include "muster/comm/work_service.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <set>
#include <thread>

#include "muster/core/clock.h"
#include "support/mpi_test.h"

namespace muster::comm {
namespace {

/// A counter that hands out "0", "1", ... below `end`.
class Numbers {
 public:
  explicit Numbers(int end) : end_(end) {}
  std::optional<std::string> operator()(int) {
    EXPECT_FALSE(inside_.test_and_set()) << "two threads at a time";
    std::optional<std::string> out;
    if (next_ < end_) out = std::to_string(next_++);
    inside_.clear();
    return out;
  }

 private:
  int end_;
  int next_ = 0;
  std::atomic_flag inside_;
};

TEST(WorkService, EveryPieceGoesToExactlyOneRank) {
  Communicator& world = test::session().world();
  constexpr int kPieces = 2000;
  Numbers numbers(kPieces);
  std::vector<std::int32_t> mine(kPieces, 0);
  {
    WorkService service(world.duplicate(), std::ref(numbers));
    while (const auto work = service.request()) ++mine[static_cast<std::size_t>(std::stoi(*work))];
    EXPECT_FALSE(service.request().has_value());  // asking again does no harm
  }
  world.all_reduce(Buffer(mine));
  EXPECT_EQ(mine, std::vector<std::int32_t>(kPieces, 1));
}

TEST(WorkService, ThreadsOfARankShareIt) {
  Communicator& world = test::session().world();
  constexpr int kPieces = 500;
  Numbers numbers(kPieces);
  std::atomic<std::int64_t> sum{0};
  {
    WorkService service(world.duplicate(), std::ref(numbers));
    std::vector<std::thread> workers;
    for (int t = 0; t < 3; ++t) {
      workers.emplace_back([&] {
        while (const auto work = service.request()) sum += std::stoi(*work);
      });
    }
    for (auto& worker : workers) worker.join();
  }
  EXPECT_EQ(world.all_reduce_value<std::int64_t>(sum, Op::kSum), kPieces * (kPieces - 1) / 2);
}

TEST(WorkService, LargeAndEmptyPieces) {
  Communicator& world = test::session().world();
  const std::string large(3'000'000, 'x');
  WorkService service(world.duplicate(),
                      [&](int rank) { return std::optional(rank % 2 == 0 ? std::string() : large); });
  EXPECT_EQ(service.request(), world.rank() % 2 == 0 ? std::string() : large);
}

TEST(WorkService, AnErrorReachesWhoAsked) {
  Communicator& world = test::session().world();
  WorkService service(world.duplicate(),
                      [](int) -> std::optional<std::string> { throw core::DataError("input ends early"); });
  try {
    service.request();
    FAIL() << "no error";
  } catch (const core::Error& error) {
    EXPECT_NE(std::string(error.what()).find("input ends early"), std::string::npos) << error.what();
  }
}

// Rank 0 computes without a pause on all its cores while the others ask: the answers must come between its
// computations.
TEST(WorkService, AnswersWhileRankZeroComputes) {
  Communicator& world = test::session().world();
  if (world.size() == 1) GTEST_SKIP() << "needs two ranks";
  constexpr int kRequests = 200;
  constexpr double kMostSeconds =
      0.5;  // of one request; a stall lasts as long as the computation, here for ever
  Numbers numbers(1 << 30);
  std::vector<double> times;
  std::atomic<bool> done{false};
  {
    WorkService service(world.duplicate(), std::ref(numbers));
    Communicator end = world.duplicate();
    std::vector<std::thread> load;
    if (world.is_root()) {
      for (std::size_t i = 0; i < test::session().place().cores.size(); ++i) {
        load.emplace_back([&done] {
          volatile double x = 1;
          while (!done) x = x * 1.0000001 + 1e-9;
        });
      }
    }
    for (int i = 0; i < kRequests; ++i) {
      const double start = core::monotonic_seconds();
      ASSERT_TRUE(service.request().has_value());
      times.push_back(core::monotonic_seconds() - start);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    end.barrier();
    done = true;
    for (auto& thread : load) thread.join();
  }
  std::ranges::sort(times);
  const double worst = world.all_reduce_value(world.is_root() ? 0.0 : times.back(), Op::kMax);
  const double median = world.all_reduce_value(world.is_root() ? 0.0 : times[times.size() / 2], Op::kMax);
  if (world.is_root()) {
    std::printf("worst request %.2f ms, median %.2f ms\n", worst * 1e3, median * 1e3);
    RecordProperty("worst_request_us", static_cast<int>(worst * 1e6));
  }
  EXPECT_LT(worst, kMostSeconds);
}

}  // namespace
}  // namespace muster::comm
