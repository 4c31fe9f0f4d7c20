// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <new>

#include "support/mpi_test.h"

namespace muster::comm {
namespace {

using core::ExitCode;

struct Case {
  const char* name;
  ExitCode code;
  void (*raise)();
  const char* text;
};

template <class E>
[[noreturn]] void raise_error() {
  throw E("the cause");
}
[[noreturn]] void raise_bad_alloc() {
  throw std::bad_alloc();
}
[[noreturn]] void raise_other() {
  throw std::runtime_error("the cause");
}
[[noreturn]] void raise_unknown() {
  throw 7;
}

class Collectively : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(
    Errors, Collectively,
    testing::Values(Case{"Config", ExitCode::kUsage, raise_error<core::ConfigError>, "the cause"},
                    Case{"Data", ExitCode::kInput, raise_error<core::DataError>, "the cause"},
                    Case{"Resume", ExitCode::kResumeMismatch, raise_error<core::ResumeError>, "the cause"},
                    Case{"Output", ExitCode::kOutput, raise_error<core::OutputError>, "the cause"},
                    Case{"Comm", ExitCode::kInternal, raise_error<core::CommError>, "the cause"},
                    Case{"Memory", ExitCode::kResources, raise_bad_alloc, "bad_alloc"},
                    Case{"Other", ExitCode::kInternal, raise_other, "the cause"},
                    Case{"Unknown", ExitCode::kInternal, raise_unknown, "unknown type"}),
    [](const auto& test) { return test.param.name; });

TEST_P(Collectively, OneRanksErrorIsEveryonesError) {
  Communicator& world = test::session().world();
  if (world.size() == 1) GTEST_SKIP() << "needs two ranks";
  const int guilty = world.size() - 1;
  try {
    collectively(world, [&] {
      if (world.rank() == guilty) GetParam().raise();
    });
    FAIL() << "no error";
  } catch (const std::exception& error) {
    EXPECT_EQ(core::exit_code_of(error), GetParam().code);
    const std::string expected = "[on rank " + std::to_string(guilty) + "] ";
    EXPECT_EQ(std::string(error.what()).find(expected), 0u) << error.what();
    EXPECT_NE(std::string(error.what()).find(GetParam().text), std::string::npos) << error.what();
  }
  world.barrier();  // the ranks are still in step
}

TEST(CollectivelyAll, TheLowestRankSpeaksAndTheTypeStays) {
  Communicator& world = test::session().world();
  if (world.size() == 1) {
    EXPECT_THROW(collectively(world, [] { throw core::DataError("x"); }), core::DataError);
    return;
  }
  try {
    collectively(world, [&] {
      if (world.rank() > 0) throw core::DataError("from " + std::to_string(world.rank()));
    });
    FAIL() << "no error";
  } catch (const core::DataError& error) {
    EXPECT_EQ(std::string(error.what()).find("[on rank 1] from 1"), 0u) << error.what();
    if (world.size() == 4) {
      EXPECT_NE(std::string(error.what()).find("2 more of 4 ranks failed"), std::string::npos)
          << error.what();
    }
  }
}

TEST(CollectivelyAll, SuccessIsSilent) {
  int runs = 0;
  collectively(test::session().world(), [&] { ++runs; });
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace muster::comm
