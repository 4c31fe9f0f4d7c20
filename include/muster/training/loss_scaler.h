// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace muster::training {

struct LossScalerConfig {
  bool enabled = false;
  double initial_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  std::uint64_t growth_interval = 2000;
  double minimum_scale = 1;
  void validate() const;  ///< ConfigError
};

/// The factor that lifts small fp16 gradients out of the subnormals (Micikevicius et al., 2018), moved as
/// torch.amp.GradScaler does: an overflow cuts it at once, a long run without one makes it grow.
class LossScaler {
 public:
  explicit LossScaler(const LossScalerConfig& config);

  double scale() const { return state_.scale; }  ///< 1 when off
  bool at_minimum() const;                       ///< an overflow would not make it smaller; true when off
  enum class Outcome { kFinite, kOverflow };
  void update(Outcome outcome);

  /// What a checkpoint keeps.
  struct State {
    double scale = 1;
    std::uint64_t steps_since_change = 0;
  };
  State state() const { return state_; }
  void restore(const State& state);

 private:
  LossScalerConfig config_;
  State state_;
};

}  // namespace muster::training
