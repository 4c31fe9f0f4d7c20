// SPDX-License-Identifier: Apache-2.0
// The UNet's batch shared by however many ranks this runs on; every rank alone makes the reference.
#include <filesystem>

#include "muster/core/error.h"
#include "picture_cases.h"
#include "support/mpi_test.h"

namespace muster::diffusion {
namespace {

std::shared_ptr<comm::Communicator> group() {
  return std::make_shared<comm::Communicator>(comm::make_mpi_communicator());
}

/// Rank 0 makes pictures, the others help; what rank 0 made.
std::vector<std::vector<Picture>> make_shared_pictures(
    const std::string& name, const std::vector<std::vector<PictureRequest>>& calls) {
  const auto pipeline = load(name);
  const auto ranks = group();
  pipeline->share_unet(ranks);
  std::vector<std::vector<Picture>> made;
  if (ranks->is_root()) {
    for (const auto& requests : calls) made.push_back(pipeline->run(requests));
    pipeline->dismiss();
  } else {
    int lives = 0;
    pipeline->serve([&] { ++lives; });
    EXPECT_GT(lives, 0);
  }
  return made;
}

class SharedUNet : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Folders, SharedUNet, testing::Values("sd15", "sd2", "sdxl"),
                         [](const auto& info) { return std::string(info.param); });

// Fewer rows than ranks, as many, more; with guidance and without.
TEST_P(SharedUNet, MakesTheSameBytes) {
  std::vector<std::vector<PictureRequest>> calls;
  for (const char* sampler : {"", "euler_a"}) {
    const auto four = four_requests(sampler);
    for (const std::size_t count : {1, 2, 4})
      calls.emplace_back(four.begin(), four.begin() + static_cast<int>(count));
    PictureRequest plain = small_request(5);
    plain.guidance = 1;
    calls.push_back({plain});
  }
  const auto shared = make_shared_pictures(GetParam(), calls);
  if (shared.empty()) return;
  const auto alone = load(GetParam());
  for (std::size_t call = 0; call < calls.size(); ++call) {
    const auto expected = alone->run(calls[call]);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(shared[call][i].rgb, expected[i].rgb) << "call " << call << ", picture " << i;
      EXPECT_EQ(shared[call][i].latents, expected[i].latents) << "call " << call << ", picture " << i;
    }
  }
}

// The last rank has another model: its reason reaches all of them, and nobody waits for ever.
TEST(SharedUNetTrouble, IsEveryRanksTrouble) {
  const auto ranks = group();
  if (ranks->size() == 1) GTEST_SKIP() << "one rank shares nothing";
  const bool odd = ranks->rank() == ranks->size() - 1;
  const auto pipeline = load(odd ? "sdxl" : "sd15");
  pipeline->share_unet(ranks);
  const auto requests = four_requests("");
  try {
    if (ranks->is_root())
      pipeline->run(requests);
    else
      pipeline->serve([] {});
    ADD_FAILURE() << "no error";
  } catch (const core::Error& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find(fmt::format("[on rank {}]", ranks->size() - 1)), std::string::npos) << what;
  }
  if (!ranks->is_root()) return;
  EXPECT_THROW(pipeline->run(requests), core::Error);  // at once
  pipeline->dismiss();
}

}  // namespace
}  // namespace muster::diffusion
