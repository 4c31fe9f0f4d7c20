// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/formats/item_source.h"
#include "phases/labels/class_files.h"
#include "phases/labels/label_file.h"
#include "support/gzip.h"
#include "support/job.h"

namespace muster::phases {
namespace {

using Ids = std::vector<taxonomy::ClassId>;
using Words = std::vector<std::string>;

// What `action` refuses with; "accepted" when it does not.
template <class F>
std::string refusal(F&& action) {
  try {
    action();
  } catch (const core::DataError& error) {
    return error.what();
  }
  return "accepted";
}

void expect_says(const std::string& message, const Words& parts) {
  for (const auto& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << part << "\n in " << message;
}

struct Files {
  std::string classes = "0\tfood\n1\ttea\n2\tcoffee\n3\tbeauty\n";
  std::string hierarchy = "0\t1\n0\t2\n";
  std::string keywords = "tea:green_tea,leaves\ncoffee: espresso , , arabica:x\n";
};

LabelSpace read(const Files& files) {
  const test::Scratch scratch;
  test::write_text(scratch / "c.txt", files.classes);
  test::write_text(scratch / "h.txt", files.hierarchy);
  test::write_text(scratch / "k.txt", files.keywords);
  return read_label_space(scratch / "c.txt", scratch / "h.txt", scratch / "k.txt");
}

TEST(Labels, ReadsClassesHierarchyAndKeywords) {
  const struct {
    const char* what;
    Files files;
  } rows[] = {
      {"as published", {}},
      {"CRLF, byte-order mark, blank lines, no last newline",
       {"\xEF\xBB\xBF"
        "0\tfood\r\n\r\n1\ttea\r\n2\tcoffee\r\n3\tbeauty",
        "0\t1\r\n0\t2", "tea:green_tea,leaves\r\ncoffee:espresso,arabica:x\r\n"}},
      {"edges by name", {.hierarchy = "food\ttea\nfood\t2\n"}},
      {"doubled edges", {.hierarchy = "0\t1\n0\t2\n0\t1\n"}},
  };
  for (const auto& row : rows) {
    const auto space = read(row.files);
    EXPECT_EQ(space.names, (Words{"food", "tea", "coffee", "beauty"})) << row.what;
    EXPECT_EQ(space.keywords,
              (std::vector<Words>{{}, {"green_tea", "leaves"}, {"espresso", "arabica:x"}, {}}))
        << row.what;
    ASSERT_EQ(space.hierarchy.roots().size(), 2u) << row.what;
    ASSERT_EQ(space.hierarchy.children(0).size(), 2u) << row.what;
    EXPECT_EQ(space.hierarchy.children(0)[1], 2) << row.what;
  }
}

TEST(Labels, HierarchyAndKeywordsMayBeAbsentAndFilesGzipped) {
  const test::Scratch scratch;
  test::write_text(scratch / "c.txt.gz", testing::gzip(Files().classes));
  const auto space = read_label_space(scratch / "c.txt.gz", "", "");
  EXPECT_EQ(space.names.size(), 4u);
  EXPECT_EQ(space.hierarchy.roots().size(), 4u);
  EXPECT_EQ(space.keywords, (std::vector<Words>(4)));
}

TEST(Labels, RefusesBrokenClassFilesWithLines) {
  const struct {
    Files files;
    Words says;
  } rows[] = {
      {{.classes = "0\tfood\n2\ttea\n"}, {"c.txt: line 2: id '2' where 1 comes next"}},
      {{.classes = "0\tfood\nx\ttea\n"}, {"line 2: id 'x' where 1 comes next"}},
      {{.classes = "0\tfood\n1\tfood\n2\n3\t\n4\t tea\n"},
       {"line 2: the class 'food' is named in line 1 already", "line 3: 1 columns", "line 4: id '3' where 2",
        "line 4: '' is no class name: it is empty", "line 5: ' tea' is no class name"}},
      {{.classes = ""}, {"it holds no class"}},
      {{.hierarchy = "0\t1\n0\t9\nfood\tte\n1\n"},
       {"h.txt: line 2: there is no class 9; 4 classes have ids 0 to 3",
        "line 3: there is no class 'te'; is 'tea' meant?", "line 4: 1 columns"}},
      {{.hierarchy = "0\t1\n1\t2\n2\t0\n3\t3\n"},
       {"h.txt: line 4: class 3 is its own parent", "a cycle", "2 above 0 (line 3)"}},
      {{.keywords = "tea:a\nsoap:b\nno colon\ntea:c\n"},
       {"k.txt: line 2: there is no class 'soap'", "line 3: there is no colon",
        "line 4: the class 'tea' has its keywords in line 1"}},
  };
  for (const auto& row : rows) expect_says(refusal([&] { read(row.files); }), row.says);
}

TEST(Labels, TellsOfClassesThatNoEdgeNames) {
  const test::Scratch scratch;
  core::log::open_file(scratch / "log");
  read(Files());
  core::log::close_file();
  expect_says(test::read_text(scratch / "log"), {"1 of 4 classes are in no edge and stand apart: beauty"});
}

// 1 is an id and the name of class 2; 7 is no id, but a name.
TEST(Labels, FindsClassesByIdOrName) {
  const Words names{"food", "tea", "1", "7", "3"};
  const ClassLookup lookup(names);
  const struct {
    const char* word;
    taxonomy::ClassId id;
    const char* why_not;
  } rows[] = {
      {"0", 0, ""},
      {"tea", 1, ""},
      {"7", 3, ""},
      {"4", 4, ""},
      {"1", -1, "another"},
      {"-1", -1, "'-1'"},
      {"9", -1, "class 9"},
      {"", -1, "''"},
      {"99999999999999", -1, "'99999999999999'"},
      {"fod", -1, "is 'food' meant?"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(lookup.find(row.word).value_or(-1), row.id) << row.word;
    if (row.id < 0) expect_says(lookup.why_not(row.word), {row.why_not});
  }
}

std::vector<DocumentLabels> read_rows(const std::string& text) {
  const test::Scratch scratch;
  test::write_text(scratch / "l.tsv", text);
  return read_labels(scratch / "l.tsv", {"food", "tea", "coffee"});
}

TEST(Labels, ReadsLabelFiles) {
  const struct {
    const char* text;
    std::vector<DocumentLabels> rows;
  } rows[] = {
      {"", {}},
      {"7\t0,2\n8\t1\n", {{"7", {0, 2}}, {"8", {1}}}},
      {"id\tlabels\n7\tcoffee,food\n", {{"7", {2, 0}}}},
      {"id\tlabels\tignored\tweight\na b\t tea , 1 ,tea\n", {{"a b", {1}}}},
      {"7\t-\n8\t\n9\t-\t2\n", {{"7"}, {"8"}, {"9", {}, {2}}}},
      {"7\t0\t1,2\t0.25\r\n8\t0\t-\t0\r\n", {{"7", {0}, {1, 2}, 0.25f}, {"8", {0}, {}, 0}}},
  };
  for (const auto& row : rows) EXPECT_EQ(read_rows(row.text), row.rows) << row.text;
}

TEST(Labels, RefusesBrokenLabelFilesWithLines) {
  const struct {
    std::string text;
    Words says;
  } rows[] = {
      {"7\t0\n8\tjuice\n9\tcofee,3\n",
       {"l.tsv: line 2: there is no class 'juice'", "line 3: there is no class 'cofee'; is 'coffee' meant?",
        "line 3: there is no class 3; 3 classes have ids 0 to 2"}},
      {"7\t0\n\n7\t1\n", {"line 3: the document '7' has its labels in line 1 already"}},
      {"7\n", {"line 1: 1 columns"}},
      {"7\t0\t\t1\t\n", {"line 1: 5 columns"}},
      {"7\t0,,1\n", {"there is no class ''"}},
      {"\t0\n", {"'' is no document's id"}},
      {"7\t0\t-\t-1\n8\t0\t-\tnan\n9\t0\t-\tinf\n10\t0\t-\t1x\n",
       {"line 1: '-1' is no weight", "line 2: 'nan'", "line 3: 'inf'", "line 4: '1x'"}},
      {"id\tlabels\nid\tlabels\n", {"line 2: there is no class 'labels'"}},
      {"7\t0\n" + std::string(5000, '\t') + "\n", {"line 2: the row has more than 4096 columns"}},
  };
  for (const auto& row : rows) expect_says(refusal([&] { read_rows(row.text); }), row.says);
}

// A file of labels for other classes is told in a few lines.
TEST(Labels, AFileOfStrangersIsTold) {
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += std::to_string(i) + "\tother_class_" + std::to_string(i) + "\n";
  const auto message = refusal([&] { read_rows(text); });
  expect_says(message, {"line 20: there is no class 'other_class_19'", "and 19980 more"});
  EXPECT_LT(message.size(), 2000u);
}

TEST(Labels, WritesWhatItReads) {
  const test::Scratch scratch;
  const std::vector<DocumentLabels> rows{
      {"a", {2, 0}}, {"b"}, {"c", {1}, {2, 0}}, {"d", {}, {}, 0.1f}, {"e", {0}, {1}, 8.655577f}, {"id", {0}}};
  const std::vector<std::string> names{"food", "tea", "coffee"};
  write_labels(scratch / "l.tsv", rows);
  EXPECT_EQ(test::read_text(scratch / "l.tsv"),
            "a\t2,0\nb\t-\nc\t1\t2,0\nd\t-\t-\t0.1\ne\t0\t1\t8.655577\nid\t0\n");
  EXPECT_EQ(read_labels(scratch / "l.tsv", names), rows);
  const auto places = rows_by_id(rows);
  EXPECT_EQ(places.at("d"), 3u);
  EXPECT_EQ(places.count("z"), 0u);
}

// The files of both layouts, named by what they are.
const Words kAmazon{"classes.txt",
                    "class_hierarchy.txt",
                    "class_related_keywords.txt",
                    "train/train_corpus.txt",
                    "test/test_corpus.txt",
                    "gold/train_doc2labels.txt",
                    "gold/test_doc2labels.txt"};
const Words kTeleclass{"labels.txt",         "label_hierarchy.txt", "train/llm_enrichment.txt",
                       "train/corpus.txt",   "test/corpus.txt",     "train/doc2labels.txt",
                       "test/doc2labels.txt"};

void lay_out(const test::Scratch& folder, const Words& files) {
  for (const auto& file : files) {
    std::filesystem::create_directories(std::filesystem::path(folder / file).parent_path());
    test::write_text(folder / file, "");
  }
}

TEST(Labels, RecognisesBothLayouts) {
  for (const auto& [name, files] :
       {std::pair{"Amazon_products", kAmazon}, std::pair{"TELEClass", kTeleclass}}) {
    const test::Scratch scratch;
    lay_out(scratch, files);
    std::filesystem::rename(scratch / files[3], scratch / (files[3] + ".gz"));
    std::filesystem::remove(scratch / files[2]);
    std::filesystem::remove(scratch / files[5]);
    const auto layout = find_layout(scratch.path());
    EXPECT_EQ(layout.name, name);
    EXPECT_EQ(layout.classes, scratch / files[0]);
    EXPECT_EQ(layout.hierarchy, scratch / files[1]);
    EXPECT_EQ(layout.keywords, "");
    EXPECT_EQ(layout.train_corpus, scratch / (files[3] + ".gz"));
    EXPECT_EQ(layout.test_corpus, scratch / files[4]);
    EXPECT_EQ(layout.train_gold, "");
    EXPECT_EQ(layout.test_gold, scratch / files[6]);
  }
}

TEST(Labels, SaysWhatALayoutLacks) {
  const struct {
    Words files, says;
  } rows[] = {
      {{"classes.txt", "test/test_corpus.txt"},
       {"as a data set in the layout Amazon_products it lacks class_hierarchy.txt, train/train_corpus.txt"}},
      {{"labels.txt", "label_hierarchy.txt", "train/corpus.txt", "classes.txt"},
       {"the layout TELEClass it lacks test/corpus.txt"}},
      {{"readme.txt"},
       {"no layout of a data set is recognised", "Amazon_products: classes.txt,", "TELEClass: labels.txt,"}},
  };
  for (const auto& row : rows) {
    const test::Scratch scratch;
    lay_out(scratch, row.files);
    expect_says(refusal([&] { find_layout(scratch.path()); }), row.says);
  }
  expect_says(refusal([] { find_layout("/no/such/folder"); }),
              {"/no/such/folder is no folder that can be read"});
}

std::size_t count_documents(const std::string& path) {
  const auto source = formats::open_text_source({.paths = {path}, .format = formats::InputFormat::kTsv});
  formats::Item item;
  formats::Reject reject;
  std::size_t count = 0;
  for (formats::RowKind kind; (kind = source->next(item, reject)) != formats::RowKind::kEnd;) {
    EXPECT_EQ(kind, formats::RowKind::kItem) << path << ": " << reject.reason;
    EXPECT_EQ(item.id, std::to_string(count++));
  }
  return count;
}

TEST(Labels, TheShippedSampleIsWhole) {
  const auto layout = find_layout(test::source_file("configs/demo/debtags_small"));
  const auto space = read_label_space(layout.classes, layout.hierarchy, layout.keywords);
  EXPECT_EQ(space.names.size(), 40u);
  EXPECT_EQ(space.hierarchy.roots().size(), 7u);
  const struct {
    std::string corpus, gold;
    std::size_t documents;
  } rows[] = {{layout.train_corpus, layout.train_gold, 1200}, {layout.test_corpus, layout.test_gold, 300}};
  for (const auto& row : rows) {
    EXPECT_EQ(count_documents(row.corpus), row.documents);
    const auto gold = read_labels(row.gold, space.names);
    EXPECT_EQ(gold.size(), row.documents);
    for (const auto& document : gold) {
      ASSERT_FALSE(document.labels.empty());
      auto sorted = document.labels;
      std::sort(sorted.begin(), sorted.end());
      EXPECT_EQ(space.hierarchy.closure(document.labels), sorted) << document.id;
    }
  }
}

}  // namespace
}  // namespace muster::phases
