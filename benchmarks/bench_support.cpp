// SPDX-License-Identifier: Apache-2.0
#include "bench.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "muster/core/env.h"
#include "muster/core/error.h"
#include "muster/formats/item_source.h"

namespace muster::bench {

std::int64_t iterations(Length length, std::int64_t full) {
  return length == Length::kFull ? full : std::max<std::int64_t>(2, full / 100);
}

ScratchFolder::ScratchFolder() : path_(core::env("TMPDIR").value_or("/tmp") + "/muster_bench_XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) {
    throw core::OutputError("cannot make the folder " + path_ + ": " + core::errno_text(errno) +
                            "; set TMPDIR");
  }
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> demo_texts() {
  formats::InputConfig config;
  config.paths = {MUSTER_SOURCE_DIR "/configs/demo/debian_2000.tsv.gz"};
  const auto source = formats::open_text_source(config);
  std::vector<std::string> texts;
  formats::Item item;
  formats::Reject reject;
  for (;;) {
    const auto kind = source->next(item, reject);
    if (kind == formats::RowKind::kEnd) return texts;
    if (kind == formats::RowKind::kItem) texts.push_back(item.text);
  }
}

}  // namespace muster::bench
