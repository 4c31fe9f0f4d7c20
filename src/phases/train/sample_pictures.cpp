// SPDX-License-Identifier: Apache-2.0
#include "phases/train/sample_pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/diffusion/text_to_image.h"
#include "muster/formats/png.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

void write_picture(const diffusion::PictureRequest& request, const diffusion::Picture& picture,
                   const std::string& path) {
  const formats::Image image{
      .width = picture.width, .height = picture.height, .channels = 3, .pixels = picture.rgb};
  const auto bytes = formats::encode_png(image, {{"prompt", request.prompt},
                                                 {"seed", std::to_string(request.seed)},
                                                 {"steps", std::to_string(request.steps)},
                                                 {"guidance", fmt::format("{}", request.guidance)}});
  const std::string temporary = path + ".tmp";
  {
    const auto file = core::create_for_writing(temporary);
    core::write_all(file.get(), bytes, temporary);
  }
  core::publish_file(temporary, path);
}

void make_own(comm::Communicator& world, const SampleConfig& config, const SampleRound& round) {
  const auto [first, last] = share_of_rank(config.prompts.size(), world.rank(), world.size());
  if (first == last) return;
  const auto pipeline = diffusion::load_text_to_image(
      {.folder = round.pipeline, .device = round.device, .compute_type = round.compute_type});
  for (std::size_t i = first; i < last; ++i) {
    round.alive();
    diffusion::PictureRequest request{.prompt = config.prompts[i],
                                      .seed = diffusion::picture_seed(config.seed, i, 0),
                                      .width = config.resolution,
                                      .height = config.resolution,
                                      .steps = config.steps,
                                      .guidance = config.guidance};
    const auto pictures = pipeline->run({&request, 1});
    const auto path = fs::path(round.folder) / sample_name(round.epoch, world.rank(), i - first);
    write_picture(request, pictures.at(0), path.string());
  }
}

}  // namespace

PromptShare share_of_rank(std::size_t count, int rank, int ranks) {
  const auto all = static_cast<std::size_t>(ranks), own = static_cast<std::size_t>(rank);
  const std::size_t share = (count + all - 1) / all;
  return {std::min(count, own * share), std::min(count, (own + 1) * share)};
}

std::string sample_name(std::uint64_t epoch, int rank, std::size_t number) {
  return fmt::format("epoch_{:04}_rank_{}_sample_{:02}.png", epoch, rank, number);
}

int make_samples(comm::Communicator& world, const SampleConfig& config, const SampleRound& round) {
  std::int32_t failed = 0;
  try {
    core::make_directories(round.folder);
    make_own(world, config, round);
  } catch (const std::exception& error) {
    failed = 1;
    core::log::warning("rank {} has no sample pictures of epoch {}: {}; the training goes on", world.rank(),
                       round.epoch, error.what());
  }
  return world.all_reduce_value(failed, comm::Op::kSum);
}

}  // namespace muster::phases
