// SPDX-License-Identifier: Apache-2.0
// main() of a multi-rank test program: every rank runs the same tests, only rank 0 prints its progress, all
// print their failures, and every rank exits with the worst result of all.
#include <gtest/gtest.h>

#include <iostream>
#include <string>

#include "muster/core/log.h"
#include "support/mpi_test.h"

namespace muster::test {
namespace {

comm::Session* the_session = nullptr;

class FailuresOnly : public testing::EmptyTestEventListener {
 public:
  explicit FailuresOnly(int rank) : rank_(rank) {}
  // Kept, because asking for the current test while a result comes in would wait for a lock that is held.
  void OnTestStart(const testing::TestInfo& test) override {
    test_ = std::string(test.test_suite_name()) + "." + test.name();
  }
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::cerr << "[rank " << rank_ << "] " << test_ << " "
              << (result.file_name() == nullptr ? "" : result.file_name()) << ":" << result.line_number()
              << ": " << result.message() << std::endl;
  }

 private:
  int rank_;
  std::string test_;
};

void silence_other_ranks(int rank) {
  if (rank == 0) return;
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  delete listeners.Release(listeners.default_xml_generator());
  listeners.Append(new FailuresOnly(rank));
}

}  // namespace

comm::Session& session() {
  return *the_session;
}

}  // namespace muster::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  muster::comm::Session session(&argc, &argv);
  muster::test::the_session = &session;
  muster::core::log::set_label(rank_label(session.place()));
  muster::test::silence_other_ranks(session.place().rank);
  const int mine = RUN_ALL_TESTS();
  return session.world().all_reduce_value<std::int32_t>(mine, muster::comm::Op::kMax);
}
