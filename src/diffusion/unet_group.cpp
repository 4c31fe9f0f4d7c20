// SPDX-License-Identifier: Apache-2.0
#include "diffusion/unet_group.h"

#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <array>
#include <bit>
#include <chrono>
#include <thread>
#include <vector>

#include "muster/core/error.h"
#include "muster/nn/backend.h"

namespace muster::diffusion {
namespace {

constexpr int kTag = 41;
constexpr auto kFloat = c10::ScalarType::Float;

enum class Order : std::int64_t { kBatch, kStep, kEnd, kDismiss };

std::span<float> floats(const at::Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

at::Tensor on_host(const at::Tensor& tensor) {
  return tensor.to(c10::Device(c10::DeviceType::CPU), kFloat).contiguous();
}

/// Rows of each rank: as many for all, the first ranks one more where they do not come out even.
std::vector<std::int64_t> shares_of(std::int64_t rows, int ranks) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(ranks), rows / ranks);
  for (std::int64_t i = 0; i < rows % ranks; ++i) ++out[static_cast<std::size_t>(i)];
  return out;
}

std::vector<std::uint64_t> counts_of(const std::vector<std::int64_t>& shares, std::int64_t values_a_row) {
  std::vector<std::uint64_t> out;
  for (const std::int64_t share : shares) out.push_back(static_cast<std::uint64_t>(share * values_a_row));
  return out;
}

/// LibTorch's errors as ours, so that the ranks agree on an exit code.
template <class Work>
void computing(const std::string& what, const Work& work) {
  try {
    work();
  } catch (const c10::Error& error) {
    nn::rethrow(error, what);
  }
}

}  // namespace

/// Sizes of a batch, or a step of it.
struct UNetGroup::Message {
  Order order = Order::kEnd;
  std::int64_t time = 0;  ///< bits of a float
  std::int64_t rows = 0, tokens = 0, width = 0, projection = 0, time_ids = 0;
  std::int64_t channels = 0, height = 0, columns = 0;
};

/// A batch on one of the ranks; the ranks call the same functions in the same order.
class UNetGroup::Batch final : public UNetRows {
 public:
  Batch(UNetGroup& group, const Model& model, const Message& sizes, const ConditionRows& all)
      : group_(group), sizes_(sizes), shares_(shares_of(sizes.rows, group.group_->size())) {
    ConditionRows mine;
    agree([&] { mine = empty_rows(); });
    scatter(all.hidden, mine.hidden);
    scatter(all.text_embeds, mine.text_embeds);
    scatter(all.time_ids, mine.time_ids);
    agree([&] {
      computing("the condition of a shared UNet batch", [&] {
        if (own() == 0) return;
        const auto moved = [&](const at::Tensor& x) { return x.defined() ? x.to(group_.device_) : x; };
        rows_ = std::make_unique<LocalUNetRows>(
            model(), ConditionRows{moved(mine.hidden), moved(mine.text_embeds), moved(mine.time_ids)});
      });
    });
  }

  ~Batch() override {
    if (!group_.leads() || ended_) return;
    try {
      group_.tell({.order = Order::kEnd});
    } catch (const std::exception&) {
      group_.over_ = true;  // the next call says so
    }
  }

  /// Rank 0: tells the others.
  at::Tensor forward(const at::Tensor& latents, float time) override {
    Message message = sizes_;
    message.order = Order::kStep;
    message.time = std::bit_cast<std::int32_t>(time);
    message.channels = latents.size(1);
    message.height = latents.size(2);
    message.columns = latents.size(3);
    const at::Tensor sent = on_host(latents);
    group_.tell(message);
    return step(message, sent).to(latents.device());
  }

  /// All ranks; what comes back is whole on rank 0 and empty elsewhere.
  at::Tensor step(const Message& message, const at::Tensor& latents) {
    comm::Communicator& group = *group_.group_;
    const std::vector<std::int64_t> shape{message.channels, message.height, message.columns};
    const std::int64_t values = message.channels * message.height * message.columns;
    const auto sized = [&](std::int64_t rows) {
      return at::empty({rows, shape[0], shape[1], shape[2]}, kFloat);
    };
    at::Tensor mine, all;
    agree([&] {
      computing("the latents of a shared UNet batch", [&] {
        mine = sized(own());
        all = sized(group.is_root() ? message.rows : 0);
      });
    });
    const auto counts = counts_of(shares_, values);
    group.scatterv(
        comm::ConstBuffer(std::span<const float>(latents.defined() ? floats(latents) : std::span<float>())),
        counts, comm::Buffer(floats(mine)));
    agree([&] {
      computing("a step of a shared UNet batch", [&] {
        if (own() == 0) return;
        const float time = std::bit_cast<float>(static_cast<std::int32_t>(message.time));
        mine = on_host(rows_->forward(mine.to(group_.device_), time));
      });
    });
    group.gatherv(comm::ConstBuffer(std::span<const float>(floats(mine))), comm::Buffer(floats(all)), counts);
    return all;
  }

 private:
  // The others leave the batch with this rank, so nobody is told of its end.
  void agree(const std::function<void()>& work) {
    try {
      comm::collectively(*group_.group_, work);
    } catch (const core::ResourceError&) {
      ended_ = true;
      throw;
    } catch (...) {
      ended_ = group_.over_ = true;
      throw;
    }
  }

  std::int64_t own() const { return shares_[static_cast<std::size_t>(group_.group_->rank())]; }

  ConditionRows empty_rows() const {
    ConditionRows out;
    computing("the condition of a shared UNet batch", [&] {
      out.hidden = at::empty({own(), sizes_.tokens, sizes_.width}, kFloat);
      if (sizes_.projection > 0) out.text_embeds = at::empty({own(), sizes_.projection}, kFloat);
      if (sizes_.time_ids > 0) out.time_ids = at::empty({own(), sizes_.time_ids}, kFloat);
    });
    return out;
  }

  void scatter(const at::Tensor& all, const at::Tensor& mine) {
    if (!mine.defined()) return;
    comm::Communicator& group = *group_.group_;
    const at::Tensor sent = group.is_root() ? on_host(all) : at::empty({0}, kFloat);
    const std::int64_t values = mine.numel() / std::max<std::int64_t>(own(), 1);
    const std::int64_t row = group.is_root() ? sent.numel() / sizes_.rows : values;
    group.scatterv(comm::ConstBuffer(std::span<const float>(floats(sent))), counts_of(shares_, row),
                   comm::Buffer(floats(mine)));
  }

  UNetGroup& group_;
  Message sizes_;
  std::vector<std::int64_t> shares_;
  std::unique_ptr<LocalUNetRows> rows_;
  bool ended_ = false;
};

UNetGroup::UNetGroup(std::shared_ptr<comm::Communicator> group, c10::Device device)
    : group_(std::move(group)), device_(device) {}

void UNetGroup::tell(const Message& message) {
  static_assert(std::is_trivially_copyable_v<Message>);
  for (int rank = 1; rank < group_->size(); ++rank)
    group_->send(comm::ConstBuffer(std::span<const std::byte>(std::as_bytes(std::span(&message, 1)))), rank,
                 kTag);
}

// A blocking receive would spin on a core, and nobody would hear from this rank while rank 0 works alone.
UNetGroup::Message UNetGroup::wait(const std::function<void()>& alive) {
  using Clock = std::chrono::steady_clock;
  constexpr int kYields = 2000;
  constexpr std::chrono::microseconds kSleep{200};
  auto told = Clock::now();
  alive();
  for (int polls = 0; !group_->probe(kTag); ++polls) {
    if (polls < kYields)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(kSleep);
    if (Clock::now() - told < std::chrono::milliseconds(200)) continue;
    told = Clock::now();
    alive();
  }
  Message message;
  group_->receive(comm::Buffer(std::span<std::byte>(std::as_writable_bytes(std::span(&message, 1)))), 0,
                  kTag);
  return message;
}

std::unique_ptr<UNetRows> UNetGroup::lead(const Model& model, const ConditionRows& rows) {
  if (over_)
    throw core::CommError("the ranks that shared the UNet have parted after an error; start the job again");
  const auto width = [](const at::Tensor& x) { return x.defined() ? x.size(1) : std::int64_t{0}; };
  const Message sizes{.order = Order::kBatch,
                      .rows = rows.rows(),
                      .tokens = rows.hidden.size(1),
                      .width = rows.hidden.size(2),
                      .projection = width(rows.text_embeds),
                      .time_ids = width(rows.time_ids)};
  tell(sizes);
  return std::make_unique<Batch>(*this, model, sizes, rows);
}

void UNetGroup::follow(const Message& begin, const Model& model, const std::function<void()>& alive) {
  const c10::InferenceMode inference;
  nn::use_one_thread();
  Batch batch(*this, model, begin, {});
  for (Message message = wait(alive); message.order == Order::kStep; message = wait(alive))
    batch.step(message, {});
}

void UNetGroup::serve(const Model& model, const std::function<void()>& alive,
                      const std::function<void()>& release) {
  for (Message message = wait(alive); message.order != Order::kDismiss; message = wait(alive)) {
    if (message.order != Order::kBatch) continue;
    try {
      follow(message, model, alive);
    } catch (const core::ResourceError&) {
      release();  // rank 0 has the same error, and tries a smaller batch
    }
  }
}

void UNetGroup::dismiss() {
  if (over_) return;
  over_ = true;
  tell({.order = Order::kDismiss});
}

}  // namespace muster::diffusion
