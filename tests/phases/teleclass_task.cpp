// SPDX-License-Identifier: Apache-2.0
#include "teleclass_task.h"

#include <filesystem>

#include "muster/formats/item_source.h"
#include "muster/formats/table.h"

namespace muster::test {
namespace {

namespace fs = std::filesystem;

/// The first rows of a file of the small task, unpacked.
std::string head(const std::string& file, std::size_t rows) {
  const auto source =
      formats::open_text_source({.paths = {small_task(file)}, .format = formats::InputFormat::kTsv});
  formats::Item item;
  formats::Reject reject;
  std::string out;
  for (std::size_t i = 0; i < rows && source->next(item, reject) == formats::RowKind::kItem; ++i)
    out += item.id + "\t" + item.text + "\n";
  return out;
}

}  // namespace

std::string small_task(const std::string& file) {
  return source_file("configs/demo/debtags_small/" + file);
}

void write_task(const Scratch& scratch, std::size_t train, std::size_t test) {
  for (const char* folder : {"data/train", "data/test", "data/gold"})
    fs::create_directories(scratch / folder);
  for (const char* file : {"classes.txt", "class_hierarchy.txt", "class_related_keywords.txt"})
    fs::copy_file(small_task(file), scratch / (std::string("data/") + file));
  write_text(scratch / "data/train/train_corpus.txt", head("train/train_corpus.txt.gz", train));
  write_text(scratch / "data/test/test_corpus.txt", head("test/test_corpus.txt.gz", test));
  write_text(scratch / "data/gold/test_doc2labels.txt", head("gold/test_doc2labels.txt.gz", test));
  write_text(scratch / "data/gold/train_doc2labels.txt", head("gold/train_doc2labels.txt.gz", train));
}

Command teleclass(const Scratch& scratch, const Command& more) {
  return Command{muster_program(),
                 "teleclass",
                 "-m",
                 tiny_encoder(),
                 "--data",
                 scratch / "data",
                 "-o",
                 scratch / "out",
                 "--dtype",
                 "fp32",
                 "--device",
                 "cpu",
                 "--workers",
                 "1",
                 "--global-batch",
                 "32",
                 "--max-steps",
                 "4",
                 "--reproducible",
                 "--map-points",
                 "0",
                 "--batch-tokens",
                 "1024",
                 "--set",
                 "run.commit_interval=20ms",
                 "train.log_every=1"} +
         more;
}

std::vector<std::vector<std::string>> read_csv_file(const std::string& path) {
  const auto reader = formats::make_csv_reader(formats::open_file_source(path));
  std::vector<std::vector<std::string>> rows;
  for (formats::TableRow row; reader->next(row);) rows.emplace_back(row.fields.begin(), row.fields.end());
  return rows;
}

}  // namespace muster::test
