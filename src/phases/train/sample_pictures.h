// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "muster/comm/communicator.h"
#include "muster/device/device.h"
#include "muster/models/text_encoder.h"

namespace muster::phases {

/// The pictures that a training job makes between epochs to be looked at.
struct SampleConfig {
  std::vector<std::string> prompts;
  std::uint64_t every = 1;  ///< epochs; 0: never
  std::uint32_t steps = 20;
  double guidance = 3;
  std::uint32_t resolution = 64;
  std::uint64_t seed = 0;
};

/// A rank's part of `count` prompts: the ceiling of an even share for the first ones, so 5 on 4 ranks are 2,
/// 2, 1 and 0. [first, last)
struct PromptShare {
  std::size_t first = 0, last = 0;
};
PromptShare share_of_rank(std::size_t count, int rank, int ranks);

/// epoch_0001_rank_0_sample_00.png
std::string sample_name(std::uint64_t epoch, int rank, std::size_t number);

struct SampleRound {
  std::string pipeline;  ///< a whole folder that all ranks can read
  std::string folder;    ///< where the pictures go
  std::uint64_t epoch = 1;
  device::Device device;
  models::ComputeType compute_type = models::ComputeType::kFp32;
  std::function<void()> alive;  ///< called before each picture, for the watchdog
};
/// Collective: every rank makes the pictures of its prompts. A rank that cannot says so, and meets the others
/// all the same; how many ranks could not comes back on all of them.
int make_samples(comm::Communicator& world, const SampleConfig& config, const SampleRound& round);

}  // namespace muster::phases
