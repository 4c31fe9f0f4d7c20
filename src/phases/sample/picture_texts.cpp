// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/picture_texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "muster/core/strings.h"

namespace muster::phases {
namespace {

constexpr std::size_t kHashDigits = 10;  // as other programs shorten a model's SHA-256

struct SamplerWords {
  std::string_view name, words, schedule;
};
// What the samplers are called in the `parameters` of other programs.
constexpr std::array<SamplerWords, 9> kSamplers{{{"ddim", "DDIM", ""},
                                                 {"pndm", "PLMS", ""},
                                                 {"euler", "Euler", ""},
                                                 {"euler_karras", "Euler", "Karras"},
                                                 {"euler_a", "Euler a", ""},
                                                 {"dpmpp_2m", "DPM++ 2M", ""},
                                                 {"dpmpp_2m_karras", "DPM++ 2M", "Karras"},
                                                 {"dpmpp_2m_sde", "DPM++ 2M SDE", ""},
                                                 {"unipc", "UniPC", ""}}};

std::string sampler_words(const std::string& name) {
  const auto known =
      std::find_if(kSamplers.begin(), kSamplers.end(), [&](const auto& s) { return s.name == name; });
  if (known == kSamplers.end()) return "Sampler: " + name;
  std::string words = fmt::format("Sampler: {}", known->words);
  if (!known->schedule.empty()) words += fmt::format(", Schedule type: {}", known->schedule);
  return words;
}

/// Commas and line breaks would end a value there.
std::string one_value(const std::string& text) {
  return text.find_first_of(",:\n\"") == std::string::npos ? text : core::json_quote(text);
}

std::string parameters(const diffusion::PictureRequest& request, const PictureSource& source) {
  std::string text = request.prompt + "\n";
  if (!request.negative_prompt.empty()) text += "Negative prompt: " + request.negative_prompt + "\n";
  text +=
      fmt::format("Steps: {}, {}, CFG scale: {}, Seed: {}, Size: {}x{}, Model hash: {}, Model: {}",
                  request.steps, sampler_words(source.sampler), request.guidance, request.seed, request.width,
                  request.height, source.model_sha256.substr(0, kHashDigits), one_value(source.model_name));
  if (request.guidance_rescale > 0) text += fmt::format(", CFG Rescale: {}", request.guidance_rescale);
  if (!source.adapters.empty()) {
    std::vector<std::string> hashes;
    for (const auto& adapter : source.adapters)
      hashes.push_back(fmt::format("{}: {}", adapter.name, adapter.sha256.substr(0, kHashDigits)));
    text += ", Lora hashes: " + core::json_quote(core::join(hashes, ", "));
  }
  return text;
}

std::string as_json(const diffusion::PictureRequest& request, const PictureSource& source) {
  std::string adapters;
  for (const auto& adapter : source.adapters)
    adapters += fmt::format("{}{{\"name\":{},\"sha256\":\"{}\",\"scale\":{}}}", adapters.empty() ? "" : ",",
                            core::json_quote(adapter.name), adapter.sha256, adapter.scale);
  return fmt::format(
      "{{\"prompt\":{},\"negative_prompt\":{},\"seed\":{},\"width\":{},\"height\":{},\"steps\":{},"
      "\"sampler\":{},"
      "\"guidance\":{},\"guidance_rescale\":{},\"long_prompt\":\"{}\",\"dtype\":\"{}\",\"model\":{},"
      "\"model_sha256\":\"{}\",\"adapters\":[{}],\"software\":\"muster\"}}",
      core::json_quote(request.prompt), core::json_quote(request.negative_prompt), request.seed,
      request.width, request.height, request.steps, core::json_quote(source.sampler), request.guidance,
      request.guidance_rescale, source.long_prompt, source.dtype, core::json_quote(source.model_name),
      source.model_sha256, adapters);
}

}  // namespace

formats::PngTexts picture_texts(const diffusion::PictureRequest& request, const PictureSource& source) {
  return {{"parameters", parameters(request, source)}, {"muster", as_json(request, source)}};
}

}  // namespace muster::phases
