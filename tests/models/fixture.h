// SPDX-License-Identifier: Apache-2.0
// What the tests of this room share: the tiny models that generate_fixtures.py wrote, and copies to damage.
#pragma once
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "muster/core/env.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"
#include "muster/formats/safetensors.h"
#include "muster/models/text_encoder.h"

namespace muster::models {

namespace fs = std::filesystem;

inline fs::path fixture_root() {
  return fs::path(__FILE__).parent_path() / "fixtures";
}

/// Names of the tiny models, sorted.
inline std::vector<std::string> fixture_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(fixture_root()))
    if (fs::exists(entry.path() / "config.json")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// The folder of a real model: below MUSTER_MODELS_DIR, else models/ of the source tree; empty when absent.
inline std::string real_model_folder(const std::string& name) {
  const fs::path root =
      core::env("MUSTER_MODELS_DIR").value_or((fixture_root() / "../../../models").string());
  return fs::exists(root / name / "config.json") ? (root / name).string() : "";
}

/// Texts as ids, and what the reference makes of them.
struct Expected {
  std::vector<std::uint32_t> ids, lengths;
  std::uint32_t prompt_tokens = 0;
  std::size_t dimensions = 0;
  std::vector<float> embeddings;
  std::map<std::string, std::vector<float>> states;  ///< of one text: "embeddings", "layer.0", ...

  PackedTexts packed() const { return {ids, lengths, prompt_tokens}; }
  std::vector<std::uint32_t> text(std::size_t index) const {
    std::size_t at = 0;
    for (std::size_t i = 0; i < index; ++i) at += lengths[i];
    return {ids.begin() + at, ids.begin() + at + lengths[index]};
  }
};
inline constexpr std::size_t kTracedText = 1;  ///< the one `states` belong to

template <class T>
std::vector<T> values_of(const formats::Safetensors& file, const std::string& name) {
  const auto view = file.find(name);
  if (!view) throw std::runtime_error("expected.safetensors lacks " + name);
  std::vector<T> out(view->bytes.size() / sizeof(T));
  std::memcpy(out.data(), view->bytes.data(), view->bytes.size());
  return out;
}

inline Expected read_expected(const fs::path& path) {
  const auto file = formats::Safetensors::open(path.string());
  Expected out;
  out.ids = values_of<std::uint32_t>(file, "ids");
  out.lengths = values_of<std::uint32_t>(file, "lengths");
  out.prompt_tokens = values_of<std::uint32_t>(file, "prompt_tokens").at(0);
  out.embeddings = values_of<float>(file, "embeddings");
  out.dimensions = out.embeddings.size() / out.lengths.size();
  for (const std::string& name : file.names()) {
    if (name.starts_with("layer.")) out.states[name] = values_of<float>(file, name);
    if (name == "embeddings_of_traced") out.states["embeddings"] = values_of<float>(file, name);
  }
  return out;
}

inline std::vector<float> embed(const TextEncoder& encoder, const PackedTexts& texts) {
  std::vector<float> out(texts.lengths.size() * encoder.description().dimensions);
  encoder.embed(texts, out);
  return out;
}

/// The text's own embedding, computed alone.
inline std::vector<float> embed_alone(const TextEncoder& encoder, const std::vector<std::uint32_t>& ids) {
  const auto length = static_cast<std::uint32_t>(ids.size());
  return embed(encoder, {ids, {&length, 1}});
}

inline double largest_difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= largest)) largest = std::isnan(difference) ? INFINITY : difference;
  }
  return largest;
}

inline double smallest_cosine(std::span<const float> a, std::span<const float> b, std::size_t dimensions) {
  double smallest = 1;
  for (std::size_t row = 0; row < a.size(); row += dimensions) {
    double ab = 0, aa = 0, bb = 0;
    for (std::size_t i = row; i < row + dimensions; ++i) {
      ab += static_cast<double>(a[i]) * b[i];
      aa += static_cast<double>(a[i]) * a[i];
      bb += static_cast<double>(b[i]) * b[i];
    }
    const double cosine = ab / std::sqrt(aa * bb);
    if (!(cosine >= smallest)) smallest = std::isnan(cosine) ? -1 : cosine;
  }
  return smallest;
}

/// A copy of a fixture that a test may damage; removed in the end.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& fixture) {
    std::string pattern = (fs::temp_directory_path() / "muster-models-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
    if (!fixture.empty()) fs::copy(fixture_root() / fixture, path_, fs::copy_options::recursive);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() { fs::remove_all(path_); }

  std::string path() const { return path_.string(); }

  void write(const std::string& file, const std::string& content) const {
    std::ofstream(path_ / file, std::ios::binary) << content;
  }

  /// Replaces the first `from` in a file; the test fails when there is none.
  void replace(const std::string& file, const std::string& from, const std::string& to) const {
    std::string text = core::read_file((path_ / file).string(), 1 << 20);
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos) << file << " has no " << from;
    write(file, text.replace(at, from.size(), to));
  }

  struct Tensor {
    std::string dtype;
    std::vector<std::uint64_t> shape;
    std::string bytes;
  };
  using Tensors = std::map<std::string, Tensor>;

  /// Rewrites model.safetensors.
  void change_weights(const std::function<void(Tensors&)>& change) const {
    Tensors tensors = read_tensors();
    change(tensors);
    write_tensors(tensors);
  }

 private:
  Tensors read_tensors() const {
    const auto file = formats::Safetensors::open(path());
    Tensors tensors;
    for (const std::string& name : file.names()) {
      const auto view = file.find(name);
      const auto* bytes = reinterpret_cast<const char*>(view->bytes.data());
      tensors[name] = {
          std::string(formats::dtype_name(view->dtype)), view->shape, {bytes, view->bytes.size()}};
    }
    return tensors;
  }

  // The header is not padded, so that the data begins where it may.
  void write_tensors(const Tensors& tensors) const {
    std::string header, data;
    for (const auto& [name, tensor] : tensors) {
      std::vector<std::string> shape;
      for (const auto size : tensor.shape) shape.push_back(std::to_string(size));
      header += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                            header.empty() ? "{" : ",", core::json_quote(name), tensor.dtype,
                            core::join(shape, ","), data.size(), data.size() + tensor.bytes.size());
      data += tensor.bytes;
    }
    header += "}";
    const std::uint64_t length = header.size();
    write("model.safetensors",
          std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data);
  }

  fs::path path_;
};

}  // namespace muster::models
