// SPDX-License-Identifier: Apache-2.0
#include "phases/train/picture_set.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cstring>
#include <filesystem>

#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/problem_list.h"
#include "muster/core/strings.h"
#include "muster/formats/png.h"
#include "phases/runner/packing.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostFileBytes = std::uint64_t{1} << 30;
constexpr std::size_t kPicturesAtATime = 4096;  // that travel together

std::string path_of(const PictureInput& input, const std::vector<std::string>& files,
                    const formats::Item& item) {
  const fs::path folder =
      input.folder.empty() ? fs::path(files.at(item.file)).parent_path() : fs::path(input.folder);
  return (folder / item.id).string();
}

std::vector<std::byte> read_bytes(const std::string& path) {
  const std::string text = core::read_file(path, kMostFileBytes);
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return {bytes, bytes + text.size()};
}

// [channels, height, width] in 0..255 as RGB over white.
at::Tensor over_white(const formats::Image& image) {
  const auto channels = static_cast<std::int64_t>(image.channels);
  const at::Tensor raw =
      at::empty({static_cast<std::int64_t>(image.height), static_cast<std::int64_t>(image.width), channels},
                c10::ScalarType::Byte);
  std::memcpy(raw.mutable_data_ptr(), image.pixels.data(), image.pixels.size());
  const at::Tensor planes = raw.permute({2, 0, 1}).to(c10::ScalarType::Float);
  if (channels == 1) return planes.expand({3, -1, -1}).contiguous();
  if (channels == 3) return planes.contiguous();
  const at::Tensor alpha = planes.narrow(0, 3, 1) / 255.0;
  return planes.narrow(0, 0, 3) * alpha + (1 - alpha) * 255.0;
}

// Calls `use(id, path)` for every row that can be an item.
template <class Use>
void for_each_path(const PictureInput& input, const Use& use) {
  const auto files = formats::expand_input_paths(input.input.paths);
  const auto source = formats::open_text_source(input.input);
  formats::Item item;
  formats::Reject reject;
  for (auto kind = formats::RowKind::kItem; kind != formats::RowKind::kEnd;) {
    kind = source->next(item, reject);
    if (kind == formats::RowKind::kItem) use(item.id, path_of(input, files, item));
  }
}

// Every rank decodes its share of the pictures behind `first`; all of them come back.
class PictureReader {
 public:
  PictureReader(comm::Communicator& world, std::uint32_t resolution)
      : world_(world), resolution_(resolution) {}

  void read(std::span<const std::string> paths, at::Tensor pixels) {
    const std::size_t ranks = static_cast<std::size_t>(world_.size()),
                      rank = static_cast<std::size_t>(world_.rank());
    const std::size_t begin = paths.size() * rank / ranks, end = paths.size() * (rank + 1) / ranks;
    std::string mine;
    comm::collectively(world_, [&] {
      core::ProblemList problems("pictures");
      for (std::size_t i = begin; i < end && !problems.full(); ++i) {
        try {
          const at::Tensor picture = read_picture(paths[i], resolution_);
          mine.append(static_cast<const char*>(picture.const_data_ptr()), picture.nbytes());
        } catch (const core::DataError& error) {
          problems.add(error.what());
        }
      }
      problems.throw_if_any();
    });
    std::string all;
    for (const auto& part : world_.gather_strings(mine)) all += part;
    all = world_.broadcast_string(all);
    core::internal_check(all.size() == pixels.nbytes(), "every picture is read by one rank");
    std::memcpy(pixels.mutable_data_ptr(), all.data(), all.size());
  }

 private:
  comm::Communicator& world_;
  std::uint32_t resolution_;
};

}  // namespace

double PictureSet::bytes() const {
  return pixels.defined() ? static_cast<double>(pixels.nbytes()) : 0;
}

at::Tensor PictureSet::batch(std::span<const std::uint32_t> pictures) const {
  at::Tensor indices = at::empty({static_cast<std::int64_t>(pictures.size())}, c10::ScalarType::Long);
  std::copy(pictures.begin(), pictures.end(), indices.mutable_data_ptr<std::int64_t>());
  return at::index_select(pixels, 0, indices).to(c10::ScalarType::Float).div_(127.5).sub_(1);
}

at::Tensor read_picture(const std::string& path, std::uint32_t resolution) {
  const formats::Image image = formats::decode_png(read_bytes(path), path);
  const auto size = static_cast<std::int64_t>(resolution);
  const auto height = static_cast<std::int64_t>(image.height), width = static_cast<std::int64_t>(image.width);
  const at::NoGradGuard no_graph;
  at::Tensor picture = over_white(image);
  const std::int64_t shorter = std::min(height, width);
  if (shorter != size) {
    const auto scaled = [&](std::int64_t side) {
      return std::max(size, (side * size + shorter / 2) / shorter);
    };
    picture = at::_upsample_bilinear2d_aa(picture.unsqueeze(0), {scaled(height), scaled(width)},
                                          /*align_corners=*/false)
                  .squeeze(0);
  }
  const std::int64_t top = (picture.size(1) - size) / 2, left = (picture.size(2) - size) / 2;
  return picture.narrow(1, top, size)
      .narrow(2, left, size)
      .round()
      .clamp(0, 255)
      .to(c10::ScalarType::Byte)
      .contiguous();
}

PictureSet load_pictures(comm::Communicator& world, const Survey& survey, const PictureInput& input,
                         const std::function<void(const std::string&)>& begins) {
  PictureSet set;
  begins("reading captions");
  std::string blob;
  comm::collectively(world, [&] {
    if (!world.is_root()) return;
    AcceptedItems items(input.input, survey);
    const auto files = formats::expand_input_paths(input.input.paths);
    for (formats::Item item; items.next(item);) {
      pack_text(blob, item.row, item.id);
      pack_text(blob, item.row, path_of(input, files, item));
      pack_text(blob, item.row, item.text);
    }
  });
  blob = world.broadcast_string(blob);
  const auto views = unpack_texts(blob);
  std::vector<std::string> paths;
  for (std::size_t i = 0; i < views.size(); i += 3) {
    set.rows.push_back(views[i].row);
    set.names.emplace_back(views[i].text);
    paths.emplace_back(views[i + 1].text);
    set.texts.emplace_back(views[i + 2].text);
  }
  set.lengths.assign(set.rows.size(), 1);
  const auto side = static_cast<std::int64_t>(input.resolution);
  set.pixels = at::empty({static_cast<std::int64_t>(paths.size()), 3, side, side}, c10::ScalarType::Byte);
  PictureReader reader(world, input.resolution);
  for (std::size_t first = 0; first < paths.size(); first += kPicturesAtATime) {
    begins(fmt::format("reading pictures behind {}", first));
    const std::size_t count = std::min(kPicturesAtATime, paths.size() - first);
    reader.read(std::span(paths).subspan(first, count),
                set.pixels.narrow(0, static_cast<std::int64_t>(first), static_cast<std::int64_t>(count)));
  }
  return set;
}

void check_pictures(const PictureInput& input) {
  core::ProblemList problems("pictures");
  for_each_path(input, [&](const std::string&, const std::string& path) {
    if (problems.full()) return;
    try {
      read_picture(path, input.resolution);
    } catch (const core::DataError& error) {
      problems.add(error.what());
    }
  });
  problems.throw_if_any();
}

std::string pictures_digest(const PictureInput& input) {
  core::Sha256 digest;
  for_each_path(input, [&](const std::string& id, const std::string& path) {
    // One that is missing is told with all others when they are read.
    digest.update(fmt::format("{}\n{}\n", id, fs::exists(path) ? core::sha256_file(path) : ""));
  });
  return digest.finish_hex();
}

}  // namespace muster::phases
