// SPDX-License-Identifier: Apache-2.0
// The fuzz targets: each takes any bytes and returns, unless a promise of the code under test is broken. A
// target NAME is defined in NAME_target.cpp and has its seeds in corpus/NAME.
#pragma once
#include <array>
#include <string_view>

namespace muster::fuzz {

void bert_vocabulary(std::string_view bytes);
void clip_vocabulary(std::string_view bytes);
void config_file(std::string_view bytes);
void config_values(std::string_view bytes);
void gzip(std::string_view bytes);
void items(std::string_view bytes);
void journal(std::string_view bytes);
void json(std::string_view bytes);
void png(std::string_view bytes);
void prompts(std::string_view bytes);
void safetensors(std::string_view bytes);
void safetensors_index(std::string_view bytes);
void segment(std::string_view bytes);
void tables(std::string_view bytes);
void tokenize(std::string_view bytes);
void tokenizer_json(std::string_view bytes);
void utf8(std::string_view bytes);

struct Target {
  const char* name;
  void (*run)(std::string_view bytes);
};
inline constexpr std::array<Target, 17> kTargets{{
    {"bert_vocabulary", bert_vocabulary},
    {"clip_vocabulary", clip_vocabulary},
    {"config_file", config_file},
    {"config_values", config_values},
    {"gzip", gzip},
    {"items", items},
    {"journal", journal},
    {"json", json},
    {"png", png},
    {"prompts", prompts},
    {"safetensors", safetensors},
    {"safetensors_index", safetensors_index},
    {"segment", segment},
    {"tables", tables},
    {"tokenize", tokenize},
    {"tokenizer_json", tokenizer_json},
    {"utf8", utf8},
}};

}  // namespace muster::fuzz
