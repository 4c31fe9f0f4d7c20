// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/sample_worker.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "muster/core/error.h"
#include "muster/core/half.h"
#include "muster/core/strings.h"

namespace muster::phases {
namespace {

constexpr char kDrawable = '+', kProblem = '-';

/// What the pictures of one call of the pipeline agree in.
auto shape_of(const diffusion::PictureRequest& request) {
  return std::tuple(request.width, request.height, request.steps, request.guidance > 1);
}

std::string_view verdict_words(diffusion::Verdict verdict) {
  switch (verdict) {
    case diffusion::Verdict::kNotFinite:
      return "the picture has values that are not finite (NaN or infinity)";
    case diffusion::Verdict::kBlack:
      return "the picture is black";
    case diffusion::Verdict::kFlat:
      return "the picture is one flat colour";
    case diffusion::Verdict::kGood:
      break;
  }
  return "";
}

float value_at(const formats::TensorView& tensor, std::size_t i) {
  std::uint32_t bits = 0;
  const std::size_t width = formats::dtype_bytes(tensor.dtype);
  std::memcpy(&bits, tensor.bytes.data() + i * width, width);
  if (tensor.dtype == formats::DType::kF32) return std::bit_cast<float>(bits);
  const auto half = static_cast<std::uint16_t>(bits);
  return tensor.dtype == formats::DType::kF16 ? core::half_to_float(half) : core::bfloat16_to_float(half);
}

}  // namespace

std::vector<std::byte> PromptPayload::pack() const {
  const std::string text = problem.empty() ? kDrawable + row : kProblem + problem;
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

PromptPayload PromptPayload::unpack(std::span<const std::byte> payload) {
  const std::string_view text(reinterpret_cast<const char*>(payload.data()), payload.size());
  core::internal_check(!text.empty(), "a prompt's payload is whole");
  PromptPayload out;
  (text.front() == kDrawable ? out.row : out.problem) = text.substr(1);
  return out;
}

std::vector<float> InitialNoise::of(const std::string& id, const std::array<std::uint64_t, 3>& shape) const {
  const auto tensor = file_.find(id);
  if (!tensor) throw core::DataError(fmt::format("{} has no tensor '{}'", path_, core::printable(id)));
  using enum formats::DType;
  if (tensor->dtype != kF32 && tensor->dtype != kF16 && tensor->dtype != kBF16)
    throw core::DataError(fmt::format("{}: '{}' is {}; F32, F16 or BF16 is expected", path_,
                                      core::printable(id), formats::dtype_name(tensor->dtype)));
  if (!std::ranges::equal(tensor->shape, shape))
    throw core::DataError(fmt::format("{}: '{}' is [{}], but the picture needs [{}]", path_,
                                      core::printable(id), fmt::join(tensor->shape, ", "),
                                      fmt::join(shape, ", ")));
  std::vector<float> out(shape[0] * shape[1] * shape[2]);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = value_at(*tensor, i);
  return out;
}

SampleWorker::SampleWorker(const SampleWorkshop& workshop, diffusion::TextToImage& shared,
                           std::unique_ptr<diffusion::TextToImage> own)
    : workshop_(workshop), own_(std::move(own)), pipeline_(own_ ? *own_ : shared) {
  models::prepare_compute_thread();
}

std::vector<formats::Record> SampleWorker::run(std::span<const ItemView> batch) {
  std::vector<formats::Record> records;
  std::vector<Order> orders;
  const auto& description = workshop_.description;
  for (const auto& item : batch) {
    const auto payload = PromptPayload::unpack(item.payload);
    if (!payload.problem.empty()) {
      records.push_back(failure_record(item.row, payload.problem));
      continue;
    }
    Order order{.item = item, .row = formats::parse_prompt_row(payload.row), .request = {}, .noise = {}};
    order.request = request_of(order.row, workshop_.options);
    if (workshop_.noise) {
      try {
        order.noise = workshop_.noise->of(
            order.row.id, {description.latent_channels, order.request.height / description.factor,
                           order.request.width / description.factor});
      } catch (const core::DataError& error) {
        records.push_back(failure_record(item.row, error.what()));
        continue;
      }
    }
    orders.push_back(std::move(order));
  }
  std::vector<Order*> sorted;
  for (auto& order : orders) {
    order.request.latents = order.noise;  // its place in memory is final now
    sorted.push_back(&order);
  }
  std::stable_sort(sorted.begin(), sorted.end(), [](const Order* a, const Order* b) {
    return shape_of(a->request) < shape_of(b->request);
  });
  for (std::size_t first = 0; first < sorted.size();) {
    const auto most = most_together(sorted[first]->request);
    std::size_t last = first + 1;
    while (last < sorted.size() && last - first < most &&
           shape_of(sorted[last]->request) == shape_of(sorted[first]->request))
      ++last;
    draw(std::span(sorted).subspan(first, last - first), records);
    first = last;
  }
  return records;
}

std::string SampleWorker::too_long(const ItemView& item) const {
  const auto request =
      request_of(formats::parse_prompt_row(PromptPayload::unpack(item.payload).row), workshop_.options);
  const auto prompt = workshop_.description.prompt_length(request.prompt);
  const auto negative = workshop_.description.prompt_length(request.negative_prompt);
  const bool is_prompt = prompt.tokens > prompt.most;
  return fmt::format("the {} has {} tokens, and the text encoder takes {}; --long-prompt chunk takes all",
                     is_prompt ? "prompt" : "negative prompt", is_prompt ? prompt.tokens : negative.tokens,
                     prompt.most);
}

std::size_t SampleWorker::most_together(const diffusion::PictureRequest& request) const {
  if (workshop_.options.batch_size > 0) return workshop_.options.batch_size;
  return std::max<std::uint64_t>(kBatchPixels / (std::uint64_t{request.width} * request.height), 1);
}

void SampleWorker::draw(std::span<Order*> orders, std::vector<formats::Record>& records) {
  std::vector<diffusion::PictureRequest> requests;
  for (const auto* order : orders) requests.push_back(order->request);
  auto pictures = pipeline_.run(requests);
  core::internal_check(pictures.size() == orders.size(), "the pipeline draws a picture a request");
  for (std::size_t i = 0; i < orders.size(); ++i)
    records.push_back(record(*orders[i], std::move(pictures[i])));
}

formats::Record SampleWorker::record(const Order& order, diffusion::Picture picture) const {
  const std::uint64_t row = order.item.row;
  if (picture.verdict != diffusion::Verdict::kGood) {
    return failure_record(
        row, fmt::format("{}{}; another seed, fp32 or other weights may help", verdict_words(picture.verdict),
                         picture.decoded_again ? ", also with the VAE in fp32" : ""));
  }
  const auto& description = workshop_.description;
  PictureRecord out;
  out.facts = {.digest = {},
               .seed = order.request.seed,
               .row = order.row.row,
               .copy = order.row.copy,
               .rank = 0,
               .width = picture.width,
               .height = picture.height,
               .tokens = description.prompt_length(order.request.prompt).tokens,
               .truncated = static_cast<std::uint8_t>(order.item.truncated),
               .decoded_again = static_cast<std::uint8_t>(picture.decoded_again)};
  out.prompt = order.request.prompt;
  out.texts = picture_texts(order.request, workshop_.source);
  out.rgb = std::move(picture.rgb);
  if (workshop_.options.latents == Keep::kYes) {
    out.latents = std::move(picture.latents);
    out.latent_shape = {description.latent_channels, picture.height / description.factor,
                        picture.width / description.factor};
  }
  return {.item = row, .kind = formats::RecordKind::kResult, .payload = pack(out)};
}

}  // namespace muster::phases
