// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "muster/formats/safetensors.h"
#include "muster/phases/item_phase.h"
#include "phases/sample/picture_record.h"
#include "phases/sample/picture_texts.h"
#include "phases/sample/sample_options.h"

namespace muster::phases {

/// What travels to a worker: the row's JSON, or why it cannot be drawn.
struct PromptPayload {
  std::string row, problem;
  std::vector<std::byte> pack() const;
  static PromptPayload unpack(std::span<const std::byte> payload);
};

/// Initial noise from a file: a tensor an item, named by its id.
class InitialNoise {
 public:
  explicit InitialNoise(const std::string& path) : path_(path), file_(formats::Safetensors::open(path)) {}
  /// DataError when there is none of that name and shape.
  std::vector<float> of(const std::string& id, const std::array<std::uint64_t, 3>& shape) const;

 private:
  std::string path_;
  formats::Safetensors file_;
};

/// What the workers of a rank have in common.
struct SampleWorkshop {
  const SampleOptions& options;
  const diffusion::PipelineDescription& description;
  PictureSource source;
  std::unique_ptr<InitialNoise> noise;  ///< null: from the seeds
};

/// Draws a batch in groups of equal shape. With `own` null it works on the pipeline that the rank shares with
/// its group.
class SampleWorker : public ItemWorker {
 public:
  SampleWorker(const SampleWorkshop& workshop, diffusion::TextToImage& shared,
               std::unique_ptr<diffusion::TextToImage> own);
  std::vector<formats::Record> run(std::span<const ItemView> batch) override;
  std::string too_long(const ItemView& item) const override;
  void release_memory() override { pipeline_.release_memory(); }

 private:
  struct Order {
    ItemView item;
    formats::PromptRow row;
    diffusion::PictureRequest request;
    std::vector<float> noise;
  };
  void draw(std::span<Order*> orders, std::vector<formats::Record>& records);
  formats::Record record(const Order& order, diffusion::Picture picture) const;
  std::size_t most_together(const diffusion::PictureRequest& request) const;

  const SampleWorkshop& workshop_;
  std::unique_ptr<diffusion::TextToImage> own_;
  diffusion::TextToImage& pipeline_;
};

/// Pictures that are drawn together where nothing else is said: so many pixels.
inline constexpr std::uint64_t kBatchPixels = std::uint64_t{1} << 20;

}  // namespace muster::phases
