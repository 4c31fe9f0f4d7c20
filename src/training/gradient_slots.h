// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "training/layout.h"

namespace muster::training {

/// The gradients of this rank's slots in the wire type: a flat array a slot. Tells when all slots have
/// completed a bucket.
class GradientSlots {
 public:
  struct Config {
    int slots = 1;
    c10::ScalarType dtype = c10::ScalarType::Float;
    c10::Device device{c10::DeviceType::CPU};
    std::function<void(std::size_t bucket)> on_complete;  ///< called by the thread that added the last part
  };
  GradientSlots(std::span<const ParameterSpec> parameters, const Layout& layout, Config config);

  void begin_step();
  void add(int slot, std::size_t parameter, const at::Tensor& gradient, More more);
  bool complete() const { return missing_.load() == 0; }

  c10::ScalarType dtype() const { return config_.dtype; }
  /// A range of a slot's flat array.
  at::Tensor part(int slot, Range range) const;
  double bytes() const;

 private:
  enum class State : std::uint8_t { kNothing, kSomething, kComplete };
  struct Slot {
    at::Tensor flat;
    std::vector<at::Tensor> gradients;     ///< of each parameter, in `flat`
    std::vector<at::Tensor> accumulators;  ///< fp32, once a 16-bit gradient came in several parts
    std::vector<State> states;
  };
  void put(Slot& slot, std::size_t parameter, const at::Tensor& gradient, More more);

  const Layout& layout_;
  Config config_;
  std::vector<Slot> slots_;
  std::vector<std::size_t> parts_of_bucket_;               ///< parameters with a part in it
  std::unique_ptr<std::atomic<std::size_t>[]> remaining_;  ///< a bucket: parts that are still to come
  std::atomic<std::size_t> missing_{0};                    ///< parameters of slots
};

}  // namespace muster::training
