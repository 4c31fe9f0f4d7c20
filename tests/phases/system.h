// SPDX-License-Identifier: Apache-2.0
// What the system tests share: documents, jobs over the toy phase and over the tiny encoder, and what they
// published.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "muster/core/philox.h"
#include "support/job.h"

namespace muster::test {

struct Document {
  std::string id, text;
};

/// The first `count` documents of the demo sample.
std::vector<Document> sample(std::size_t count);
std::string as_tsv(const std::vector<Document>& documents);
std::string as_csv(const std::vector<Document>& documents);
std::string as_jsonl(const std::vector<Document>& documents);
/// The same documents in another order.
std::vector<Document> shuffled(std::vector<Document> documents, std::uint64_t seed);

/// fixtures/tiny_encoder: two layers of 64, at most 64 tokens.
std::string tiny_encoder();
/// A copy that a test may damage.
std::string copy_of_tiny_encoder(const Scratch& scratch);
/// muster encode of scratch/in.tsv to scratch/out in float32 on one worker, unless `more` says otherwise.
Command encode(const Scratch& scratch, const Command& more = {});

/// An embeddings.h5, read back. Equal means the same bytes.
struct Embeddings {
  std::vector<std::string> ids;
  std::vector<float> vectors;
  std::vector<std::int32_t> n_tokens;
  std::vector<std::uint8_t> truncated;
  std::size_t dimensions = 0;
  std::string row(std::size_t index) const;  ///< the bytes of one row: vector, tokens, truncated
  bool operator==(const Embeddings& other) const;
};
Embeddings read_embeddings(const std::string& directory);

/// Texts for the toy phase: item k has id "id<k>"; the text is of the length that batches of different cost
/// need.
std::string toy_text(int item);
std::string toy_lines(int count);
/// muster_toy over scratch/in.tsv to scratch/out, on one worker, results made durable every 20 ms.
Command toy(const Scratch& scratch, const Command& more = {});
/// The checksums and ids of scratch/out are exactly those of toy_lines(count): nothing lost, nothing twice.
void expect_toy_results(const Scratch& scratch, int count);

/// Named points of the program that only a training job passes.
std::vector<std::string> training_points();

/// True with MUSTER_LONG=1: the long form of a test.
bool long_form();

/// X of "resuming: X of N"; nullopt when the job did not resume.
std::optional<int> resumed_items(const Outcome& outcome);
/// K of "toy: K texts": what this start did itself; nullopt when it says nothing.
std::optional<int> done_items(const Outcome& outcome);
int count_of(const std::string& text, const std::string& part);
/// True once the job's .run/ holds a committed group; false when the job ended first or 20 s passed.
bool wait_for_commit(const Job& job, const std::string& directory);
bool wait_for(const std::function<bool()>& condition, double seconds);
void sleep_ms(std::uint64_t milliseconds);

/// The ranks of a job: every process `name` below it that mpirun gave a rank.
struct Ranks {
  std::vector<pid_t> pids;  ///< by rank
  int alive() const;
  bool block(int signal) const;  ///< every one of them holds the signal back, for its own thread to take
};
/// Waits until `count` ranks have started. Fewer are returned when the job ended or 20 s passed.
Ranks wait_for_ranks(const Job& job, const std::string& name, int count);
/// Seconds from the end of the first rank (or from `since`, when given) until none is left; at most 10.
double seconds_until_gone(const Ranks& ranks, std::optional<double> since = std::nullopt);

}  // namespace muster::test
