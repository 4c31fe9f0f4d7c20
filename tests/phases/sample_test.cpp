// SPDX-License-Identifier: Apache-2.0
// From prompts to pictures with the tiny pipelines of tests/diffusion: the same PNG bytes whatever runs it,
// and what is published.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "muster/core/strings.h"
#include "muster/diffusion/text_to_image.h"
#include "muster/formats/json.h"
#include "muster/formats/safetensors.h"
#include "muster/formats/safetensors_writer.h"
#include "muster/formats/table.h"
#include "muster/io/hdf5_results.h"
#include "sample_support.h"

namespace muster::test {
namespace {

namespace fs = std::filesystem;

TEST_F(Sample, EveryWayToRunGivesTheSameBytes) {
  struct Way {
    int ranks;
    Command flags;
  };
  const Way ways[] = {{2, {"--schedule", "ceil"}},
                      {3, {"--schedule", "dynamic"}},
                      {4, {"--batch-size", "2", "--workers", "2"}},
                      {1, {"--batch-size", "4", "--workers", "2"}},
                      {2, {"--parallel", "none"}},
                      {3, {"--parallel", "unet", "--schedule", "dynamic"}}};
  ASSERT_EQ(reference_pictures().size(), static_cast<std::size_t>(kPictures));
  for (const auto& way : ways) {
    SCOPED_TRACE(fmt::format("{} ranks, {}", way.ranks, core::join(way.flags, " ")));
    const auto outcome = draw(way.flags + Command{"--fresh"}, way.ranks);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
    EXPECT_EQ(bytes_by_id(out()), reference_pictures());
    std::set<std::string> named;
    for (const auto& picture : read_pictures(out())) {
      named.insert(picture.file.substr(7));
      EXPECT_EQ(picture.file.substr(0, 12), fmt::format("images/r{:04d}", picture.rank));
      const int apart = way.flags.at(0) != "--parallel" ? 1 : way.flags.at(1) == "unet" ? 2 : way.ranks;
      EXPECT_EQ(picture.rank % apart, 0) << "whoever leads makes it";
    }
    EXPECT_EQ(files_in(out() + "/images"), named) << "and no others";
  }
}

TEST_F(Sample, WhatIsPublished) {
  const auto outcome = draw({"--output-latents", "--export", "preference_pairs"}, 2);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const auto pictures = read_pictures(out());
  std::vector<std::string> ids;
  for (const auto& picture : pictures) ids.push_back(picture.id);
  EXPECT_EQ(ids, (std::vector<std::string>{"cat", "cat_1", "dog", "wide", "plain", "plain_1", "plain_2",
                                           "high", "last", "last_1", "last_2"}));
  EXPECT_EQ(pictures[0].seed, diffusion::picture_seed(42, 0, 0));
  EXPECT_EQ(pictures[1].seed, diffusion::picture_seed(42, 0, 1));
  EXPECT_EQ(pictures[2].seed, 7u) << "the row's own";
  EXPECT_EQ(pictures[9].seed, diffusion::picture_seed(42, 5, 1));
  EXPECT_EQ(pictures[3].width, 48);
  EXPECT_EQ(pictures[7].height, 64);
  const io::H5Reader file(out() + "/images.h5");
  const auto latents = file.shape("/latents/wide");
  ASSERT_EQ(latents.size(), 3u);
  EXPECT_EQ(latents[1] * 48, latents[2] * 32);
  for (const float value : file.read_tensor("/latents/plain_2")) ASSERT_TRUE(std::isfinite(value));
  const auto attributes = file.attributes();
  for (const char* name : {"model_sha256", "tokenizer_sha256", "sampler", "dtype", "commit", "world_size"})
    EXPECT_TRUE(attributes.contains(name)) << name;

  const auto pairs = core::split(read_text(out() + "/preference_pairs.jsonl"), '\n');
  ASSERT_EQ(pairs.size(), 1u + 3 + 3 + 1) << "cat, plain, last, and the end of the file";
  const auto first = formats::parse_json(pairs[0], "pairs");
  EXPECT_EQ(first.get<std::string>("prompt"), "A cat, sitting");
  EXPECT_EQ(first.get<std::string>("image_a"), pictures[0].file);
  EXPECT_EQ(first.get<std::string>("image_b"), pictures[1].file);
  EXPECT_EQ(first.get<std::uint64_t>("seed_b"), pictures[1].seed);

  const auto sheet = decoded(read_text(out() + "/contact_sheet.png")).image;
  EXPECT_GT(sheet.width, 3 * 96u);
  const auto html = read_text(out() + "/report.html");
  EXPECT_EQ(count_of(html, "data:image/png;base64,"), kPictures);
  EXPECT_NE(html.find("all 11 pictures"), std::string::npos);
  const auto verified = run({muster_program(), "verify", out(), "--redo", "4"});
  EXPECT_EQ(verified.exit_code, 0) << verified.output;
  EXPECT_TRUE(verified.contains("4 items recomputed, 0 differ")) << verified.output;
  fs::remove(out() + "/" + pictures[2].file);
  EXPECT_EQ(run({muster_program(), "verify", out()}).exit_code, 3);
}

TEST_F(Sample, APictureIsMadeAgainAloneFromWhatItSays) {
  const auto& all = reference_pictures();
  const auto texts = decoded(all.at("last_1")).texts;
  ASSERT_TRUE(texts.contains("parameters"));
  const std::string parameters = texts.at("parameters");
  const auto model = decoded(all.at("dog")).texts.at("parameters");
  EXPECT_EQ(model.find("A dog\nNegative prompt: blurry\nSteps: 3, Sampler: "), 0u) << model;
  for (const char* part : {", CFG scale: 7.5, Seed: 7, Size: 32x32, Model hash: ", ", Model: sd15"})
    EXPECT_NE(model.find(part), std::string::npos) << part << " is not in " << model;
  const auto json = formats::parse_json(texts.at("muster"), "muster");
  EXPECT_EQ(json.get<std::string>("prompt"), "A cow");
  const auto seed = std::to_string(json.get<std::uint64_t>("seed"));
  EXPECT_NE(parameters.find("Seed: " + seed), std::string::npos);
  const auto outcome = draw({"--prompts", "A cow", "--seed", seed});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(bytes_by_id(out()).at("0"), all.at("last_1"));
}

TEST_F(Sample, PromptsAreAFileOrTexts) {
  const auto texts = draw({"--prompts", "A cat", "A dog?", "--count", "2"}, 2);
  ASSERT_EQ(texts.exit_code, 0) << texts.output;
  std::vector<std::string> ids;
  for (const auto& picture : read_pictures(out())) ids.push_back(picture.id);
  EXPECT_EQ(ids, (std::vector<std::string>{"0", "0_1", "1", "1_1"}));
  struct Refusal {
    Command flags;
    int code;
    const char* part;
  };
  const Refusal refusals[] = {
      {{"--prompts", "missing.csv"}, 3, "missing.csv does not exist"},
      {{"--prompts", scratch_ / "prompts.csv", "A cat"}, 2, "give files or prompts, not both"},
      {{"--prompts", "A cat", "-i", scratch_ / "prompts.csv"}, 2, "both input.prompts and input.path"},
      {{"--prompts", "A cat", "--width", "33"}, 2, "33"},
      {{"--prompts", "A cat", "--sampler", "dimm"}, 2, "dimm"},
      {{"--prompts", "A cat", "--lora", "nothing.safetensors:x"}, 2, "PATH:SCALE"},
      {{"--prompts", "A cat", "--lora", ":0.5"}, 2, "PATH:SCALE"},
      {{"--prompts", "A cat", "--lora", "nothing:0.5"}, 3, "the adapter nothing does not exist"},
      {{"--prompts", "A cat", "--dtype", "int8"}, 2, "int8"},
      {{"--prompts", "A cat", "-m", tiny_encoder()}, 3, "model_index.json"},
      {{"--prompts", "A cat", "--clip-model", "x"}, 2, "preference"},
  };
  for (const auto& refusal : refusals) {
    const auto outcome = draw(refusal.flags + Command{"-o", scratch_ / "refused"});
    EXPECT_EQ(outcome.exit_code, refusal.code) << outcome.output;
    EXPECT_TRUE(outcome.contains(refusal.part)) << refusal.part << " is not in\n" << outcome.output;
  }
  const auto neither = run({muster_program(), "sample", "-m", pipeline("sd15"), "-o", scratch_ / "refused"});
  EXPECT_EQ(neither.exit_code, 2);
  EXPECT_TRUE(neither.contains("there are no prompts")) << neither.output;
}

TEST_F(Sample, NamesAreUnderstoodAsPeopleWriteThem) {
  const std::string adapters = source_file("tests/models/fixtures/adapters/");
  fs::create_directories(scratch_ / "style/unet");
  for (const char* name : {"adapter_model.safetensors", "adapter_config.json"})
    fs::copy(adapters + "sd15_peft/unet/" + name, scratch_ / "style/unet");
  const Command same{"-m", pipeline("sd15"), "--sampler", "euler_a", "--lora", scratch_ / "style/unet:0.5"};
  const Command others[] = {
      {"-m", pipeline("sd15") + "/", "--sampler", "Euler a", "--lora", scratch_ / "style:0.5"},
      {"-m", pipeline("sd15") + "/unet/..", "--sampler", "EulerAncestralDiscreteScheduler", "--dora-weights",
       scratch_ / "style/:0.5"},
  };
  const Command prompt{"--prompts", "A cat", "--steps", "1", "--fresh"};
  ASSERT_EQ(draw(same + prompt).exit_code, 0);
  const auto expected = bytes_by_id(out()).at("0");
  const auto texts = decoded(expected).texts;
  EXPECT_NE(texts.at("parameters").find("Sampler: Euler a, "), std::string::npos) << texts.at("parameters");
  EXPECT_NE(texts.at("parameters").find("Model: sd15, Lora hashes: \"style: "), std::string::npos)
      << texts.at("parameters");
  for (const auto& other : others) {
    const auto outcome = draw(other + prompt);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
    EXPECT_EQ(bytes_by_id(out()).at("0"), expected) << core::join(other, " ");
  }
}

TEST_F(Sample, FlagsOfOtherScriptsAreUnderstood) {
  const auto outcome = run(Command{muster_program(),
                                   "plan",
                                   "--job",
                                   "sample",
                                   "-m",
                                   pipeline("sdxl"),
                                   "--prompts",
                                   "A cat",
                                   "A dog",
                                   "--output",
                                   out(),
                                   "--device",
                                   "cpu",
                                   "--gpu_ids",
                                   "0",
                                   "1",
                                   "--max-workers",
                                   "2",
                                   "--batch-size",
                                   "2",
                                   "--width",
                                   "64",
                                   "--height",
                                   "64",
                                   "--steps",
                                   "4",
                                   "--guidance",
                                   "5",
                                   "--sampler",
                                   "euler",
                                   "--seed",
                                   "3",
                                   "--negative-prompt",
                                   "blurry",
                                   "--count",
                                   "3",
                                   "--enable-cpu-offload",
                                   "--parallel",
                                   "unet",
                                   "--dtype",
                                   "fp32"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(outcome.contains("6 pictures, 0 rejected")) << outcome.output;
  for (const char* part : {"memory: text encoders", "memory: UNet", "memory: VAE", "memory: buffers"})
    EXPECT_TRUE(outcome.contains(part)) << part << "\n" << outcome.output;
}

TEST_F(Sample, MixedWorkIsBalanced) {
  std::string rows = "prompt,width,height,steps\n";
  for (int i = 0; i < 640; ++i)
    rows += fmt::format("prompt {},{},{},{}\n", i, 32 << i % 3, 32 << i / 3 % 3, 10 + i % 7 * 5);
  write_text(scratch_ / "prompts.csv", rows);
  for (const auto& [ranks, most] : {std::pair("2", 1.05), std::pair("64", 1.05)}) {
    const auto plan =
        run(Command{muster_program(), "plan", "--job", "sample", "-m", pipeline("sdxl"), "--prompts",
                    scratch_ / "prompts.csv", "--ranks", ranks, "--dtype", "fp32"});
    ASSERT_EQ(plan.exit_code, 0) << plan.output;
    const auto at = plan.output.find("balance (max/mean)");
    ASSERT_NE(at, std::string::npos) << plan.output;
    EXPECT_LE(std::stod(plan.output.substr(at + 18)), most) << plan.output;
  }
}

TEST_F(Sample, PlanReadsNoWeights) {
  fs::copy(pipeline("sdxl"), scratch_ / "model", fs::copy_options::recursive);
  for (const auto& entry : fs::recursive_directory_iterator(scratch_ / "model"))
    if (entry.path().extension() == ".safetensors") fs::remove(entry.path());
  const auto plan = run({muster_program(), "plan", "--job", "sample", "-m", scratch_ / "model", "--prompts",
                         scratch_ / "prompts.csv", "--ranks", "64", "--device", "cuda", "--dtype", "fp16"});
  EXPECT_EQ(plan.exit_code, 0) << plan.output;
  EXPECT_TRUE(plan.contains("usual: 12-18 GB")) << plan.output;
  EXPECT_TRUE(plan.contains("usual: 6-8 GB")) << plan.output;
  const auto of_type = run({muster_program(), "plan", "--job", "sample", "-m", scratch_ / "model",
                            "--prompts", scratch_ / "prompts.csv", "--dtype", "fp16"});
  EXPECT_TRUE(of_type.contains("sample on 1 ranks, cuda fp16")) << of_type.output;
}

TEST_F(Sample, InitialNoiseFromAFileDecides) {
  const auto tensor = [](const char* name) {
    return formats::TensorSpec{name, formats::DType::kF32, {4, 16, 16}};
  };
  formats::SafetensorsWriter writer(
      {scratch_ / "noise.safetensors", {tensor("0"), tensor("../1")}, {}, formats::TensorOrder::kGiven});
  for (const auto& spec : writer.tensors()) {
    std::vector<float> noise(4 * 16 * 16);
    diffusion::fill_noise(diffusion::picture_seed(42, spec.name == "0" ? 0 : 1, 0), 0, noise);
    writer.write(spec.name, std::as_bytes(std::span(noise)));
  }
  writer.finish();
  write_text(scratch_ / "prompts.csv", "id,prompt\n0,A cat\n../1,A dog\nabsent,A cow\n");
  const auto from_file = draw({"--input-latents", scratch_ / "noise.safetensors", "--steps", "2"});
  EXPECT_EQ(from_file.exit_code, 4) << from_file.output;
  EXPECT_NE(read_text(out() + "/failures.jsonl").find("has no tensor 'absent'"), std::string::npos);
  const auto file = bytes_by_id(out());
  ASSERT_EQ(draw({"-o", scratch_ / "seeds"}).exit_code, 0);
  const auto seeds = bytes_by_id(scratch_ / "seeds");
  EXPECT_EQ(file.at("0"), seeds.at("0")) << "the same noise, the same bytes";
  EXPECT_EQ(file.at("../1"), seeds.at("../1"));
}

TEST_F(Sample, LongPromptsAreCountedCutOrTakenWhole) {
  std::string many;
  for (int i = 0; i < 120; ++i) many += "cat ";
  write_text(scratch_ / "prompts.csv", "id,prompt,negative_prompt,guidance\nlong," + many +
                                           ",,\nshort,A cat,,\n" + "negative,A cat," + many +
                                           ",7\nunread,A cat," + many + ",1\n");
  const Command prompts{"--steps", "1"};
  const auto plan = run({muster_program(), "plan", "--job", "sample", "-m", pipeline("sd15"), "--dtype",
                         "fp32", "--prompts", scratch_ / "prompts.csv"});
  EXPECT_TRUE(plan.contains("4 pictures, 0 rejected, 2 truncated")) << plan.output;
  const auto cut = draw(prompts);
  ASSERT_EQ(cut.exit_code, 0) << cut.output;
  EXPECT_TRUE(cut.contains("truncated 2")) << cut.output;
  const io::H5Reader file(out() + "/images.h5");
  EXPECT_EQ(file.read_u8("/truncated", 0, 4), (std::vector<std::uint8_t>{1, 0, 1, 0}));
  EXPECT_GT(file.read_i32("/n_tokens", 0, 1)[0], 77);
  const auto refused = draw(prompts + Command{"--on-truncate", "fail", "--fresh"});
  EXPECT_EQ(refused.exit_code, 4) << refused.output;
  const auto failures = read_text(out() + "/failures.jsonl");
  for (const char* part :
       {"the prompt has 122 tokens, and the text encoder takes 77", "the negative prompt has 122"})
    EXPECT_EQ(count_of(failures, part), 1) << part << " is not in\n" << failures;
  const auto whole = draw(prompts + Command{"--long-prompt", "chunk", "-o", scratch_ / "whole"});
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  EXPECT_TRUE(whole.contains("truncated 0")) << whole.output;
}

/// tests/models' tiny CLIP with as many words as the pipeline's tokenizer has, whose files it gets.
std::string clip_with_tokenizer(const Scratch& scratch) {
  constexpr std::uint64_t kWords = 633;
  const std::string from = source_file("tests/models/fixtures/clip_score/square"), to = scratch / "clip";
  fs::copy(pipeline("sd15") + "/tokenizer", to, fs::copy_options::recursive);
  fs::copy(from + "/preprocessor_config.json", to + "/preprocessor_config.json");
  std::string config = read_text(from + "/config.json");
  for (const auto& [key, value] : {std::pair("\"vocab_size\": 200", "\"vocab_size\": 633"),
                                   std::pair("\"bos_token_id\": 198", "\"bos_token_id\": 631"),
                                   std::pair("\"eos_token_id\": 199", "\"eos_token_id\": 632")})
    config.replace(config.find(key), std::strlen(key), value);
  write_text(to + "/config.json", config);
  const auto weights = formats::Safetensors::open(from);
  const std::string words = "text_model.embeddings.token_embedding.weight";
  std::vector<formats::TensorSpec> specs;
  for (const auto& name : weights.names()) {
    auto tensor = weights.find(name).value();
    if (name == words) tensor.shape[0] = kWords;
    specs.push_back({name, tensor.dtype, tensor.shape});
  }
  formats::SafetensorsWriter writer({to + "/model.safetensors", specs, {}, formats::TensorOrder::kGiven});
  for (const auto& spec : writer.tensors()) {
    const auto bytes = weights.find(spec.name).value().bytes;
    std::vector<std::byte> all(bytes.begin(), bytes.end());
    if (spec.name == words) all.resize(bytes.size() / 200 * kWords, std::byte{0x11});
    writer.write(spec.name, all);
  }
  writer.finish();
  return to;
}

TEST_F(Sample, PreferencePairsAreScored) {
  const Command flags{"--export", "preference_pairs", "--pairs-format",
                      "csv",      "--clip-model",     clip_with_tokenizer(scratch_)};
  std::string first;
  for (const int ranks : {1, 3}) {
    const auto outcome = draw(flags + Command{"--fresh"}, ranks);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
    const auto reader = formats::make_csv_reader(formats::open_file_source(out() + "/preference_pairs.csv"));
    std::vector<std::vector<std::string>> rows;
    for (formats::TableRow row; reader->next(row);) rows.emplace_back(row.fields.begin(), row.fields.end());
    ASSERT_EQ(rows.size(), 1u + 1 + 3 + 3);
    EXPECT_EQ(rows[0].back(), "clip_score_b");
    EXPECT_EQ(rows[1][0], "A cat, sitting");
    std::string scores;
    for (std::size_t i = 1; i < rows.size(); ++i) {
      EXPECT_LE(std::abs(std::stod(rows[i][5])), 100);
      scores += rows[i][5] + " " + rows[i][6] + "\n";
    }
    EXPECT_EQ(rows[2][5], rows[3][5]) << "plain and plain_1, plain and plain_2";
    EXPECT_NE(rows[2][6], rows[3][6]);
    if (first.empty()) first = scores;
    EXPECT_EQ(scores, first) << ranks << " ranks";
  }
}

TEST_F(Sample, ManyPicturesHaveSeveralSheets) {
  write_text(scratch_ / "prompts.csv", "prompt,count\nA cat,401\n");
  const auto outcome = draw({"--steps", "1", "--guidance", "1", "--batch-size", "16"}, 2);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const auto first = decoded(read_text(out() + "/contact_sheet.png")).image,
             second = decoded(read_text(out() + "/contact_sheet_2.png")).image;
  EXPECT_GT(first.width, 10 * second.width);
  EXPECT_FALSE(exists(out() + "/contact_sheet_3.png"));
  EXPECT_LT(read_text(out() + "/report.html").size(), 2'000'000u);
}

}  // namespace
}  // namespace muster::test
