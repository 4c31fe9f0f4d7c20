// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <memory>

#include "diffusion/unet_rows.h"
#include "muster/comm/communicator.h"

namespace muster::diffusion {

/// Ranks that share each step's UNet batch. Rank 0 leads: it hands out condition rows once a batch and
/// latents every step, in the order of the ranks and as evenly as their number allows, and gets the outputs
/// back. A row is computed as it would be on one rank. An error on one rank is an error of all: out of memory
/// ends the batch, anything else ends the sharing too.
class UNetGroup {
 public:
  using Model = std::function<std::shared_ptr<const models::UNet2D>()>;
  UNetGroup(std::shared_ptr<comm::Communicator> group, c10::Device device);
  /// Rank 0: a batch, until the object goes.
  std::unique_ptr<UNetRows> lead(const Model& model, const ConditionRows& rows);
  /// The others: returns after rank 0's dismiss(). `alive` is called while they wait and at every step;
  /// `release` behind a batch that memory was short for.
  void serve(const Model& model, const std::function<void()>& alive, const std::function<void()>& release);
  void dismiss();
  bool leads() const { return group_->is_root(); }

 private:
  class Batch;
  struct Message;
  void tell(const Message& message);
  Message wait(const std::function<void()>& alive);
  void follow(const Message& begin, const Model& model, const std::function<void()>& alive);

  std::shared_ptr<comm::Communicator> group_;
  c10::Device device_;
  bool over_ = false;
};

}  // namespace muster::diffusion
