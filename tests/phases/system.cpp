// SPDX-License-Identifier: Apache-2.0
#include "system.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include "muster/core/clock.h"
#include "muster/core/digest.h"
#include "muster/core/env.h"
#include "muster/core/strings.h"
#include "muster/formats/item_source.h"
#include "muster/io/hdf5_results.h"

namespace muster::test {
namespace {

namespace fs = std::filesystem;

constexpr double kPatience = 20;

bool is_alive(pid_t pid) {
  if (::kill(pid, 0) != 0 && errno == ESRCH) return false;
  const std::string stat = read_text("/proc/" + std::to_string(pid) + "/stat");
  const auto close = stat.rfind(')');
  return close != std::string::npos && close + 2 < stat.size() && stat[close + 2] != 'Z';
}

// As mpirun told the process; -1 when it did not.
int rank_of(pid_t pid) {
  const std::string environment =
      std::string(1, '\0') + read_text("/proc/" + std::to_string(pid) + "/environ");
  const std::string key = std::string(1, '\0') + "OMPI_COMM_WORLD_RANK=";
  const auto found = environment.find(key);
  return found == std::string::npos ? -1 : std::atoi(environment.c_str() + found + key.size());
}

std::string csv_field(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::optional<int> number_behind(const std::string& text, const std::string& start) {
  const auto found = text.find(start);
  if (found == std::string::npos) return std::nullopt;
  return std::atoi(text.c_str() + found + start.size());
}

template <class T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

bool has_commit(const std::string& run_folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run_folder, ignored)) {
    const auto name = entry.path().filename().string();
    if (name.rfind("journal_", 0) == 0 && fs::file_size(entry.path(), ignored) > 0) return true;
  }
  return false;
}

}  // namespace

std::vector<Document> sample(std::size_t count) {
  formats::InputConfig config;
  config.paths = {source_file("configs/demo/debian_2000.tsv.gz")};
  config.limit = count;
  const auto source = formats::open_text_source(config);
  std::vector<Document> documents;
  formats::Item item;
  formats::Reject reject;
  for (auto kind = source->next(item, reject); kind != formats::RowKind::kEnd;
       kind = source->next(item, reject)) {
    if (kind == formats::RowKind::kItem) documents.push_back({item.id, item.text});
  }
  return documents;
}

std::string as_tsv(const std::vector<Document>& documents) {
  std::string all = "id\ttext\n";
  for (const auto& document : documents) all += document.id + "\t" + document.text + "\n";
  return all;
}

std::string as_csv(const std::vector<Document>& documents) {
  std::string all = "id,text\r\n";
  for (const auto& document : documents)
    all += csv_field(document.id) + "," + csv_field(document.text) + "\r\n";
  return all;
}

std::string as_jsonl(const std::vector<Document>& documents) {
  std::string all;
  for (const auto& document : documents) {
    all += "{\"text\": " + core::json_quote(document.text) + ", \"id\": " + core::json_quote(document.id) +
           "}\n";
  }
  return all;
}

std::vector<Document> shuffled(std::vector<Document> documents, std::uint64_t seed) {
  core::Philox random(seed, 0);
  for (std::size_t i = documents.size(); i > 1; --i)
    std::swap(documents[i - 1], documents[random.next_below(i)]);
  return documents;
}

std::string tiny_encoder() {
  return source_file("tests/phases/fixtures/tiny_encoder");
}

std::string copy_of_tiny_encoder(const Scratch& scratch) {
  fs::copy(tiny_encoder(), scratch / "model", fs::copy_options::recursive);
  return scratch / "model";
}

Command encode(const Scratch& scratch, const Command& more) {
  Command command{muster_program(), "encode"};
  const auto add_unless_given = [&](const std::string& flag, const std::string& value) {
    if (std::find(more.begin(), more.end(), flag) == more.end()) command = command + Command{flag, value};
  };
  add_unless_given("-m", tiny_encoder());
  add_unless_given("-i", scratch / "in.tsv");
  add_unless_given("-o", scratch / "out");
  add_unless_given("--dtype", "fp32");
  add_unless_given("--workers", "1");
  return command + more;
}

std::string Embeddings::row(std::size_t index) const {
  const auto* begin = reinterpret_cast<const char*>(vectors.data() + index * dimensions);
  return std::string(begin, dimensions * sizeof(float)) + ":" + std::to_string(n_tokens.at(index)) + ":" +
         std::to_string(truncated.at(index));
}

bool Embeddings::operator==(const Embeddings& other) const {
  return ids == other.ids && dimensions == other.dimensions && same_bytes(vectors, other.vectors) &&
         same_bytes(n_tokens, other.n_tokens) && same_bytes(truncated, other.truncated);
}

Embeddings read_embeddings(const std::string& directory) {
  const io::H5Reader reader(directory + "/embeddings.h5");
  const auto shape = reader.shape("/embeddings");
  const auto rows = shape.at(0);
  return {.ids = reader.read_strings("/ids", 0, rows),
          .vectors = reader.read_rows("/embeddings", 0, rows),
          .n_tokens = reader.read_i32("/n_tokens", 0, rows),
          .truncated = reader.read_u8("/truncated", 0, rows),
          .dimensions = shape.at(1)};
}

std::string toy_text(int item) {
  return "text number " + std::to_string(item) + std::string(static_cast<std::size_t>(item % 37), 'x');
}

std::string toy_lines(int count) {
  std::string all;
  for (int item = 0; item < count; ++item) all += "id" + std::to_string(item) + "\t" + toy_text(item) + "\n";
  return all;
}

Command toy(const Scratch& scratch, const Command& more) {
  write_text(scratch / "job.yaml",
             "job: toy\nmodel: {path: none}\nrun: {workers: 1, commit_interval: 20ms}\n");
  return Command{toy_program(),      "run", scratch / "job.yaml", "-i",
                 scratch / "in.tsv", "-o",  scratch / "out"} +
         more;
}

void expect_toy_results(const Scratch& scratch, int count) {
  const io::H5Reader reader(scratch / "out/sums.h5");
  const auto rows = reader.shape("/sums").at(0);
  ASSERT_EQ(rows, static_cast<std::uint64_t>(count)) << "rows published";
  const auto sums = reader.read_i32("/sums", 0, rows);
  const auto ids = reader.read_strings("/ids", 0, rows);
  for (int item = 0; item < count; ++item) {
    const auto place = static_cast<std::size_t>(item);
    ASSERT_EQ(ids[place], "id" + std::to_string(item));
    ASSERT_EQ(sums[place], static_cast<std::int32_t>(core::crc32c(toy_text(item)))) << ids[place];
  }
}

std::vector<std::string> training_points() {
  return {"step.begin",
          "train.forward",
          "training.sum_bucket",
          "checkpoint.begin",
          "checkpoint.before_complete",
          "checkpoint.before_rename",
          "checkpoint.after_rename",
          "checkpoint.end"};
}

bool long_form() {
  return core::env_int("MUSTER_LONG").value_or(0) != 0;
}

std::optional<int> resumed_items(const Outcome& outcome) {
  return number_behind(outcome.output, "resuming: ");
}

std::optional<int> done_items(const Outcome& outcome) {
  return number_behind(outcome.output, "toy: ");
}

int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

bool wait_for(const std::function<bool()>& condition, double seconds) {
  const double deadline = core::monotonic_seconds() + seconds;
  while (!condition()) {
    if (core::monotonic_seconds() > deadline) return false;
    sleep_ms(5);
  }
  return true;
}

bool wait_for_commit(const Job& job, const std::string& directory) {
  wait_for([&] { return has_commit(directory + "/.run") || !job.running(); }, kPatience);
  return job.running() && has_commit(directory + "/.run");
}

void sleep_ms(std::uint64_t milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

int Ranks::alive() const {
  return static_cast<int>(std::count_if(pids.begin(), pids.end(), is_alive));
}

bool Ranks::block(int signal) const {
  return std::all_of(pids.begin(), pids.end(), [signal](pid_t pid) {
    const std::string status = read_text("/proc/" + std::to_string(pid) + "/status");
    const auto line = status.find("SigBlk:");
    if (line == std::string::npos) return false;
    return (std::strtoull(status.c_str() + line + 7, nullptr, 16) >> (signal - 1) & 1) != 0;
  });
}

Ranks wait_for_ranks(const Job& job, const std::string& name, int count) {
  std::vector<std::pair<int, pid_t>> found;
  wait_for(
      [&] {
        found.clear();
        for (const pid_t pid : job.descendants(name)) {
          if (const int rank = rank_of(pid); rank >= 0) found.emplace_back(rank, pid);
        }
        return static_cast<int>(found.size()) == count || !job.running();
      },
      kPatience);
  std::sort(found.begin(), found.end());
  Ranks ranks;
  for (const auto& [rank, pid] : found) ranks.pids.push_back(pid);
  return ranks;
}

double seconds_until_gone(const Ranks& ranks, std::optional<double> since) {
  const auto all = static_cast<int>(ranks.pids.size());
  if (!since) {
    wait_for([&] { return ranks.alive() < all; }, 2 * kPatience);
    since = core::monotonic_seconds();
  }
  wait_for([&] { return ranks.alive() == 0; }, 10);
  return core::monotonic_seconds() - *since;
}

}  // namespace muster::test
