// SPDX-License-Identifier: Apache-2.0
// Tokenizing the demo documents, on one thread and on several that share a tokenizer, as the workers of a
// rank do.
#include <filesystem>
#include <memory>

#include "bench.h"
#include "muster/text/tokenizer.h"

namespace muster::bench {
namespace {

constexpr std::uint32_t kMaxLength = 256;

/// MiniLM's own vocabulary where the model was fetched, else the fixture's small one.
std::string tokenizer_folder() {
  const std::string fetched = MUSTER_SOURCE_DIR "/models/all-MiniLM-L6-v2";
  return std::filesystem::exists(fetched + "/tokenizer.json") ? fetched
                                                              : MUSTER_SOURCE_DIR
             "/tests/phases/fixtures/tiny_encoder";
}

struct Corpus {
  std::vector<std::string> texts = demo_texts();
  text::Tokenizer tokenizer = text::Tokenizer::load(tokenizer_folder());
};

void tokenize(benchmark::State& state, const Corpus& corpus) {
  text::Encoding encoding;
  std::int64_t bytes = 0, tokens = 0;
  for (auto _ : state) {
    for (const auto& document : corpus.texts) {
      corpus.tokenizer.encode(document, kMaxLength, encoding);
      tokens += static_cast<std::int64_t>(encoding.ids.size());
      bytes += static_cast<std::int64_t>(document.size());
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(corpus.texts.size()));
  state.SetBytesProcessed(bytes);
  state.counters["tokens"] = benchmark::Counter(static_cast<double>(tokens), benchmark::Counter::kIsRate);
}

}  // namespace

void register_tokenizer_benchmarks() {
  const auto corpus = std::make_shared<const Corpus>();
  benchmark::RegisterBenchmark("text/tokenize_2000_documents",
                               [corpus](benchmark::State& state) { tokenize(state, *corpus); })
      ->Threads(1)
      ->Threads(2)
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace muster::bench
