// SPDX-License-Identifier: Apache-2.0
#include "muster/diffusion/text_to_image.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <map>

#include "diffusion/description.h"
#include "diffusion/guidance.h"
#include "diffusion/parts.h"
#include "diffusion/pictures.h"
#include "diffusion/prompts.h"
#include "diffusion/sampler.h"
#include "diffusion/unet_group.h"
#include "diffusion/unet_rows.h"
#include "muster/core/error.h"
#include "muster/nn/backend.h"

namespace muster::diffusion {
namespace {

constexpr auto kFloat = c10::ScalarType::Float;
using Requests = std::span<const PictureRequest>;

/// What the workers of a rank share.
struct Shared {
  Shared(const PipelineConfig& c, const models::DiffusionFolder& f)
      : config(c), folder(f), parts(std::make_shared<Parts>(c, f)), prompts(parts, f, c.long_prompt) {}
  PipelineConfig config;
  models::DiffusionFolder folder;
  std::shared_ptr<Parts> parts;
  PromptEncoder prompts;
};

at::Tensor host_copy(std::span<const float> values, const std::vector<std::int64_t>& shape) {
  at::Tensor out = at::empty(shape, kFloat);
  std::ranges::copy(values, out.mutable_data_ptr<float>());
  return out;
}

/// Throws unless the requests can be made together.
void check_together(Requests requests) {
  const PictureRequest& first = requests.front();
  for (const PictureRequest& request : requests)
    core::internal_check(request.width == first.width && request.height == first.height &&
                             request.steps == first.steps && request.sampler == first.sampler &&
                             is_guided(request) == is_guided(first),
                         "the requests of a call differ in size, steps, sampler or guidance");
}

class Pipeline final : public TextToImage {
 public:
  explicit Pipeline(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  std::vector<Picture> run(Requests requests) override {
    std::vector<Picture> pictures(requests.size());
    if (requests.empty()) return pictures;
    check_together(requests);
    const c10::InferenceMode inference;
    nn::use_one_thread();
    guarded(requests, [&] {
      // Pictures whose prompts fill as many rows of tokens: the others' keys would have another length.
      std::map<std::size_t, std::vector<std::size_t>> by_chunks;
      for (std::size_t i = 0; i < requests.size(); ++i) by_chunks[chunks_of(requests[i])].push_back(i);
      for (const auto& [chunks, places] : by_chunks) {
        std::vector<PictureRequest> some;
        for (const std::size_t place : places) some.push_back(requests[place]);
        auto made = make(some, chunks);
        for (std::size_t i = 0; i < places.size(); ++i) pictures[places[i]] = std::move(made[i]);
      }
    });
    return pictures;
  }

  PromptLength prompt_length(const std::string& prompt) const override {
    return shared_->prompts.tokens().length(prompt);
  }

  void release_memory() override {
    shared_->prompts.clear();
    if (shared_->parts->device().is_cuda())
      at::getDeviceAllocator(shared_->parts->device().type())->emptyCache();
    else
      malloc_trim(0);
  }

  std::unique_ptr<TextToImage> make_worker() override {
    core::internal_check(group_ == nullptr, "a pipeline that shares its UNet has one worker");
    return std::make_unique<Pipeline>(shared_);
  }

  void share_unet(std::shared_ptr<comm::Communicator> group) override {
    group_ = std::make_unique<UNetGroup>(std::move(group), shared_->parts->device());
    if (!group_->leads()) shared_->parts->keep_unet_only();
  }

  void serve(const std::function<void()>& alive) override {
    core::internal_check(group_ != nullptr && !group_->leads(), "serve() is for the ranks that follow");
    group_->serve([this] { return shared_->parts->unet(); }, alive, [this] { release_memory(); });
  }

  void dismiss() override {
    core::internal_check(group_ != nullptr && group_->leads(), "dismiss() is for the rank that leads");
    group_->dismiss();
  }

 private:
  template <class Work>
  void guarded(Requests requests, const Work& work) const {
    const auto what = [&] {
      return fmt::format("{} pictures of {} x {}", requests.size(), requests[0].width, requests[0].height);
    };
    try {
      work();
    } catch (const c10::Error& error) {
      nn::rethrow(error, what());
    } catch (const std::bad_alloc&) {
      throw core::ResourceError(what() + ": out of host memory");
    }
  }

  std::size_t chunks_of(const PictureRequest& request) const {
    const PromptTokens& tokens = shared_->prompts.tokens();
    const std::size_t own = tokens.chunks(request.prompt);
    return is_guided(request) ? std::max(own, tokens.chunks(request.negative_prompt)) : own;
  }

  std::vector<Picture> make(Requests requests, std::size_t chunks) {
    const at::Tensor latents = denoise(requests, chunks);
    return decode_all(latents, requests);
  }

  // --- before the first step

  std::vector<std::int64_t> latent_shape(const PictureRequest& request) const {
    const std::int64_t factor = shared_->folder.vae.factor();
    return {shared_->folder.unet.in_channels, request.height / factor, request.width / factor};
  }

  at::Tensor noise(Requests requests, std::uint32_t stream) const {
    const auto shape = latent_shape(requests[0]);
    std::vector<at::Tensor> items;
    for (const PictureRequest& request : requests) {
      at::Tensor item = at::empty(shape, kFloat);
      fill_noise(request.seed, stream,
                 {item.mutable_data_ptr<float>(), static_cast<std::size_t>(item.numel())});
      items.push_back(item);
    }
    return at::stack(items).to(shared_->parts->device());
  }

  at::Tensor first_latents(Requests requests) const {
    at::Tensor latents = noise(requests, 0);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const auto given = requests[i].latents;
      if (given.empty()) continue;
      at::Tensor item = latents[static_cast<std::int64_t>(i)];
      core::internal_check(given.size() == static_cast<std::size_t>(item.numel()),
                           "the latents given do not have the picture's size");
      item.copy_(host_copy(given, latent_shape(requests[i])));
    }
    return latents;
  }

  /// With guidance the negative prompts' rows first.
  ConditionRows condition(Requests requests, std::size_t chunks) const {
    std::vector<std::string> prompts;
    if (is_guided(requests[0]))
      for (const PictureRequest& request : requests) prompts.push_back(request.negative_prompt);
    const std::size_t negatives = prompts.size();
    for (const PictureRequest& request : requests) prompts.push_back(request.prompt);
    const bool xl = shared_->folder.kind == models::PipelineKind::kStableDiffusionXL;
    const bool zeros = xl && shared_->folder.zeros_for_empty_prompt;
    std::vector<at::Tensor> hidden, pooled;
    const auto encodings = shared_->prompts.encode(prompts, chunks);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const PromptEncoding& one = encodings[i];
      const bool zero = zeros && i < negatives && prompts[i].empty();
      hidden.push_back(zero ? at::zeros_like(one.hidden) : one.hidden);
      if (xl) pooled.push_back(zero ? at::zeros_like(one.pooled) : one.pooled);
    }
    if (!xl) return {at::cat(hidden), {}, {}};
    const auto height = static_cast<float>(requests[0].height), width = static_cast<float>(requests[0].width);
    const std::vector<float> ids{height, width, 0, 0, height, width};  // original size, crop, target size
    const at::Tensor row = host_copy(ids, {1, static_cast<std::int64_t>(ids.size())});
    const at::Tensor rows = row.repeat({static_cast<std::int64_t>(prompts.size()), 1});
    return {at::cat(hidden), at::cat(pooled), rows.to(shared_->parts->device())};
  }

  std::unique_ptr<UNetRows> unet_rows(const ConditionRows& rows) {
    const auto model = [this] { return shared_->parts->unet(); };
    if (group_) return group_->lead(model, rows);
    return std::make_unique<LocalUNetRows>(model(), rows);
  }

  // --- the steps

  at::Tensor denoise(Requests requests, std::size_t chunks) {
    const models::DiffusionFolder& folder = shared_->folder;
    const auto sampler =
        make_sampler(read_scheduler(scheduler_source(folder), requests[0].sampler), requests[0].steps);
    const bool guided = is_guided(requests[0]);
    const auto unet = unet_rows(condition(requests, chunks));
    at::Tensor latents = first_latents(requests) * sampler->initial_scale();
    for (std::size_t call = 0; call < sampler->times().size(); ++call) {
      at::Tensor input = sampler->model_input(latents, call);
      if (guided) input = at::cat({input, input});
      at::Tensor output = unet->forward(input, sampler->times()[call]);
      if (guided) output = guide(output, requests);
      latents = sampler->step(output, latents, call, [&](std::size_t step) {
        return noise(requests, static_cast<std::uint32_t>(step) + 1);
      });
    }
    return latents;
  }

  // --- behind the last step

  std::vector<Picture> decode_all(const at::Tensor& latents, Requests requests) {
    std::vector<Picture> pictures;
    const auto vae = shared_->parts->vae();
    const auto count = static_cast<std::int64_t>(requests.size());
    const std::int64_t together = std::max<std::int64_t>(1, shared_->config.vae_batch);
    for (std::int64_t first = 0; first < count; first += together) {
      const std::int64_t some = std::min(together, count - first);
      const at::Tensor decoded =
          decode(*vae, latents.narrow(0, first, some), shared_->config.vae_tile).to(c10::kCPU).contiguous();
      for (std::int64_t i = 0; i < some; ++i) pictures.push_back(picture(latents[first + i], decoded[i]));
    }
    for (std::int64_t i = 0; i < count; ++i)
      try_again(latents.narrow(0, i, 1), pictures[static_cast<std::size_t>(i)]);
    return pictures;
  }

  Picture picture(const at::Tensor& latents, const at::Tensor& values) const {
    const at::Tensor own = latents.to(c10::kCPU).contiguous();
    Picture out;
    out.width = static_cast<std::uint32_t>(values.size(2));
    out.height = static_cast<std::uint32_t>(values.size(1));
    out.rgb = to_bytes(values);
    out.latents.assign(own.const_data_ptr<float>(), own.const_data_ptr<float>() + own.numel());
    out.verdict = judge(values, out.rgb);
    return out;
  }

  /// A bad picture whose latents are sound, decoded in 16 bits, is decoded in 32.
  void try_again(const at::Tensor& latents, Picture& picture) {
    if (picture.verdict == Verdict::kGood || shared_->parts->vae_is_exact()) return;
    if (!latents.isfinite().all().item<bool>()) return;
    const auto vae = shared_->parts->exact_vae();
    const at::Tensor values = decode(*vae, latents, shared_->config.vae_tile).to(c10::kCPU).contiguous();
    picture.rgb = to_bytes(values[0]);
    picture.verdict = judge(values[0], picture.rgb);
    picture.decoded_again = true;
  }

  std::shared_ptr<Shared> shared_;
  std::unique_ptr<UNetGroup> group_;
};

}  // namespace

std::unique_ptr<TextToImage> load_text_to_image(const PipelineConfig& config) {
  nn::use_one_thread();
  const auto folder = models::DiffusionFolder::read(config.folder);
  auto pipeline = std::make_unique<Pipeline>(std::make_shared<Shared>(config, folder));
  // After loading, whose copies are not needed again.
  if (config.device.kind == device::Kind::kCpu) nn::keep_freed_memory();
  return pipeline;
}

}  // namespace muster::diffusion
