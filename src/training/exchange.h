// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "training/gradient_slots.h"

namespace muster::training {

/// The thread that talks to the other ranks during a step: adds gradients bucket by bucket as they become
/// complete, then spreads the new weights bucket by bucket as they are updated. Blocking calls in bucket
/// order, since Open MPI makes no progress on its own. On a GPU the same code works on device tensors: all
/// of it, and the caller's gradients, on the default stream, which NCCL's calls wait for.
class Exchange {
 public:
  struct Config {
    std::vector<int> slots;  ///< of every rank
    Summation summation = Summation::kRanks;
    at::Tensor weights;  ///< flat, whole, in the compute type; one's own slices are spread from it
  };
  Exchange(const Layout& layout, const GradientSlots& slots, Config config, comm::Communicator& world);
  /// Ends the job when ranks still wait for this one in the midst of a call.
  ~Exchange();

  // One step: begin_step, bucket_ready for every bucket in any order and from any thread, wait_for_sums,
  // then skip, or spread with weights_ready for every bucket in order and wait_spread. Between steps and
  // after wait_for_sums the communicator is the caller's. The waiting ones throw what the thread threw.
  void begin_step();
  void bucket_ready(std::size_t bucket);
  double wait_for_sums();  ///< of squares of the whole gradient; the same bits on all ranks
  void skip();
  void spread();
  void weights_ready(std::size_t bucket);
  void wait_spread();

  /// fp32, this rank's slice of a bucket, summed over all slots of all ranks.
  at::Tensor sum(std::size_t bucket) const;
  /// Collective: the first place of the layout whose sum is not finite; -1 when there is none.
  std::int64_t first_non_finite();
  /// Collective: from every rank's slice to all.
  void spread_bucket(std::size_t bucket);
  double bytes() const;

 private:
  enum class Phase { kIdle, kSumming, kSummed, kSpreading, kFailed };

  // Of the thread.
  void run();
  template <class Condition>
  bool wait_to_go_on(const Condition& condition);
  void arrive(Phase phase, std::exception_ptr error = nullptr);
  // Of its callers.
  void command(Phase phase);
  void wait_for(Phase phase);

  int parts_of(int rank) const;  ///< gradients that a rank gives away
  void sum_bucket(std::size_t bucket);
  void add_local_slots(std::size_t bucket);
  std::vector<at::Tensor> exchange_parts(std::size_t bucket);
  void note_squares(std::size_t bucket);
  double gather_squares();

  const Layout& layout_;
  const GradientSlots& slots_;
  Config config_;
  comm::Communicator& world_;
  int rank_, ranks_;
  bool in_slot_ = false;         ///< the only slot there is holds the sums
  at::Tensor sums_;              ///< fp32, this rank's flat array; undefined when in_slot_
  at::Tensor received_;          ///< of one bucket, in the wire type
  std::vector<double> squares_;  ///< of this rank's blocks

  std::mutex mutex_;
  std::condition_variable changed_;
  Phase phase_ = Phase::kIdle;
  std::vector<bool> ready_;
  std::size_t updated_ = 0;
  double total_squares_ = 0;
  bool in_call_ = false, stop_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace muster::training
