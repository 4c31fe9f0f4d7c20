// SPDX-License-Identifier: Apache-2.0
// Pictures in trouble: killed and stopped jobs, lost and bad pictures, hostile prompts, broken rows, a full
// disk.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <filesystem>

#include "mounts.h"
#include "muster/core/strings.h"
#include "muster/formats/safetensors.h"
#include "muster/io/hdf5_results.h"
#include "sample_support.h"

namespace muster::test {
namespace {

namespace fs = std::filesystem;

class SampleInTrouble : public Sample {};

TEST_F(SampleInTrouble, ResumesAfterAKillAtEveryPoint) {
  struct Kill {
    const char* fault;
    int least;  ///< pictures that are not made again
  };
  const Kill kills[] = {{"sample.picture_written:1:2:kill", 0},
                        {"journal.synced:0:2:kill", 2},
                        {"publish.h5_serial:0:1:kill", kPictures}};
  for (const auto& kill : kills) {
    SCOPED_TRACE(kill.fault);
    const auto killed = draw({"--fresh", "--batch-size", "1", "--set", "run.commit_interval=1ms"}, 2,
                             {{"MUSTER_FAULT", kill.fault}});
    ASSERT_NE(killed.exit_code, 0) << killed.output;
    ASSERT_FALSE(exists(out() + "/manifest.json"));
    const auto rest = draw({"--set", "run.commit_interval=1ms"}, 3);
    ASSERT_EQ(rest.exit_code, 0) << rest.output;
    EXPECT_GE(resumed_items(rest).value_or(0), kill.least) << rest.output;
    EXPECT_EQ(bytes_by_id(out()), reference_pictures());
    EXPECT_EQ(files_in(out() + "/images").size(), static_cast<std::size_t>(kPictures))
        << "no file without a record";
    EXPECT_EQ(run({muster_program(), "verify", out()}).exit_code, 0);
  }
}

TEST_F(SampleInTrouble, APictureThatIsGoneOrDamagedIsMadeAgain) {
  const auto stopped = draw({}, 1, {{"MUSTER_FAULT", "publish.begin:0:1:kill"}});
  ASSERT_NE(stopped.exit_code, 0);
  const auto names = files_in(out() + "/images");
  ASSERT_EQ(names.size(), static_cast<std::size_t>(kPictures));
  fs::remove(out() + "/images/" + *names.begin());
  const auto damaged = out() + "/images/" + *names.rbegin();
  auto bytes = read_text(damaged);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_text(damaged, bytes);
  const auto rest = draw({}, 2);
  ASSERT_EQ(rest.exit_code, 0) << rest.output;
  EXPECT_TRUE(rest.contains("2 finished pictures are gone or damaged")) << rest.output;
  EXPECT_EQ(resumed_items(rest).value_or(0), kPictures - 2) << rest.output;
  EXPECT_EQ(bytes_by_id(out()), reference_pictures());
}

TEST_F(SampleInTrouble, StopsOnRequestWithEverythingSaved) {
  write_text(scratch_ / "prompts.csv", "prompt,count\nA cat,600\n");
  const Command slow =
      sample_job(scratch_, {"--steps", "20", "--batch-size", "2", "--set", "run.commit_interval=10ms"});
  Job job(mpirun(2) + slow);
  ASSERT_TRUE(wait_for_commit(job, out())) << job.output();
  job.signal(SIGUSR1);
  const auto outcome = job.wait(60);
  EXPECT_EQ(outcome.exit_code, 75) << outcome.output;
  const auto made = files_in(out() + "/images").size();
  EXPECT_GE(made, 2u);
  EXPECT_LT(made, 600u);
  const auto plan = run({muster_program(), "report", out()});
  EXPECT_EQ(plan.exit_code, 0) << plan.output;
}

TEST_F(SampleInTrouble, HostileTextsStayInside) {
  const std::string long_text(300, 'x');
  const std::vector<std::string> ids{
      "../../x", "/etc/passwd", "..", "a/b", "%2F", "\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D", long_text};
  std::string lines;
  for (const auto& id : ids)
    lines += fmt::format("{{\"id\":{},\"prompt\":{}}}\n", core::json_quote(id),
                         core::json_quote("../../" + id + " \xF0\x9F\x90\x88\n\t"));
  lines += "{\"id\":\"nul\",\"prompt\":\"a\\u0000b\"}\n";
  write_text(scratch_ / "prompts.jsonl", lines);
  const auto before = files_in(scratch_.path());
  const auto outcome = draw({"--prompts", scratch_ / "prompts.jsonl", "--output-latents"}, 2);
  EXPECT_EQ(outcome.exit_code, 4) << outcome.output;
  EXPECT_NE(read_text(out() + "/rejects.jsonl").find("NUL"), std::string::npos);
  auto after = files_in(scratch_.path());
  after.erase("out");
  EXPECT_EQ(after, before);
  const auto pictures = read_pictures(out());
  ASSERT_EQ(pictures.size(), ids.size()) << "nothing is lost";
  const io::H5Reader file(out() + "/images.h5");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(pictures[i].id, ids[i]);
    EXPECT_EQ(pictures[i].prompt, "../../" + ids[i] + " \xF0\x9F\x90\x88\n\t");
    EXPECT_EQ(decoded(pictures[i].bytes).texts.at("parameters").find(pictures[i].prompt), 0u);
    EXPECT_EQ(file.read_tensor("/latents/" + io::h5_link_name(ids[i])).size(),
              file.read_tensor("/latents/" + io::h5_link_name(ids[0])).size());
  }
}

TEST_F(SampleInTrouble, FewAndNoPromptsAndOneBrokenRow) {
  write_text(scratch_ / "prompts.csv",
             "\xEF\xBB\xBFid,prompt,width\r\nonly,A cat,\r\nbad,A dog,abc\r\nodd,A fish,33\r\n");
  const auto outcome = draw({}, 4);
  EXPECT_EQ(outcome.exit_code, 4) << outcome.output;
  ASSERT_EQ(read_pictures(out()).size(), 1u);
  EXPECT_EQ(read_pictures(out())[0].id, "only");
  const auto rejects = read_text(out() + "/rejects.jsonl");
  EXPECT_NE(rejects.find("\"line\":3"), std::string::npos) << rejects;
  EXPECT_NE(rejects.find("width is 'abc'"), std::string::npos) << rejects;
  const auto failures = read_text(out() + "/failures.jsonl");
  EXPECT_NE(failures.find("\"id\":\"odd\""), std::string::npos)
      << "a size that the model cannot do: " << failures;
  const auto strict = draw({"--strict", "-o", scratch_ / "strict"});
  EXPECT_EQ(strict.exit_code, 3) << strict.output;
  EXPECT_FALSE(exists(scratch_ / "strict/images"));

  write_text(scratch_ / "prompts.csv", "id,prompt\n");
  const auto none = draw({"-o", scratch_ / "none"}, 2);
  EXPECT_EQ(none.exit_code, 0) << none.output;
  EXPECT_EQ(read_pictures(scratch_ / "none").size(), 0u);
  EXPECT_FALSE(exists(scratch_ / "none/contact_sheet.png"));
}

/// A copy of a pipeline with every value of one tensor of the VAE replaced.
std::string with_vae_bias(const Scratch& scratch, std::uint16_t half) {
  fs::copy(pipeline("sd15"), scratch / "model",
           fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  const std::string path = scratch / "model/vae/diffusion_pytorch_model.safetensors";
  std::string content = read_text(path);
  const auto header = formats::parse_safetensors_header(std::as_bytes(std::span(content)), path);
  const auto& tensor = header.tensors.at("decoder.conv_out.bias");
  EXPECT_EQ(tensor.dtype, formats::DType::kF16);
  for (std::uint64_t at = tensor.begin; at < tensor.end; at += 2)
    std::memcpy(content.data() + header.data_offset + at, &half, sizeof half);
  write_text(path, content);
  return scratch / "model";
}

TEST_F(SampleInTrouble, BadPicturesAreFailuresAndCanBeRetried) {
  constexpr std::uint16_t kNan = 0x7E00, kVeryDark = 0xFBFF;  // -65504
  for (const auto& [bias, reason] : {std::pair(kNan, "not finite"), std::pair(kVeryDark, "black")}) {
    SCOPED_TRACE(reason);
    const auto model = with_vae_bias(scratch_, bias);
    const auto outcome = draw({"-m", model, "--prompts", "A cat", "A dog", "--fresh"}, 2);
    EXPECT_EQ(outcome.exit_code, 4) << outcome.output;
    EXPECT_EQ(count_of(read_text(out() + "/failures.jsonl"), reason), 2)
        << read_text(out() + "/failures.jsonl");
    EXPECT_EQ(read_pictures(out()).size(), 0u);
    EXPECT_EQ(files_in(out() + "/images").size(), 0u);
  }
  const auto again = draw({"-m", scratch_ / "model", "--prompts", "A cat", "A dog", "--retry-failed"});
  EXPECT_EQ(again.exit_code, 4) << again.output;
  EXPECT_TRUE(again.contains("2 to do")) << again.output;
}

TEST_F(SampleInTrouble, FullDiskIsNamedAndARerunIsExact) {
  const auto disk = Mount::tmpfs(out(), "6m");
  if (!disk.ok()) GTEST_SKIP() << disk.reason();
  write_text(scratch_ / "prompts.csv", "prompt,count\nA cat,120\n");
  const Command flags{"--steps", "10", "--batch-size", "1", "--set", "run.commit_interval=5ms"};
  Job job(mpirun(2) + sample_job(scratch_, flags));
  ASSERT_TRUE(wait_for_commit(job, out())) << job.output();
  fill_disk(out());
  const auto outcome = job.wait(60);
  EXPECT_EQ(outcome.exit_code, 7) << outcome.output;
  EXPECT_TRUE(outcome.contains("No space left on device")) << outcome.output;
  free_disk(out());
  const auto rest = draw(flags, 2);
  ASSERT_EQ(rest.exit_code, 0) << rest.output;
  EXPECT_GT(resumed_items(rest).value_or(0), 0) << rest.output;
  EXPECT_EQ(read_pictures(out()).size(), 120u);
}

}  // namespace
}  // namespace muster::test
