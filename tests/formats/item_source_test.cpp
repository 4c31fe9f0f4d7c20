// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/item_source.h"

#include <chrono>
#include <map>
#include <random>

#include "muster/formats/json.h"
#include "muster/formats/utf8.h"
#include "testing.h"

namespace muster::formats {
namespace {

using namespace std::string_literals;
using testing::data_error_of;
using testing::gzip;
using testing::read_rows;
using testing::read_text;
using testing::TemporaryFolder;

const std::string kMark = "\xEF\xBB\xBF";
const std::string kBad = "\xEF\xBF\xBD";

struct Case {
  std::string name;  ///< of the file, it decides the format
  std::string content;
  std::string ids, texts, reasons;
};

void expect_case(const Case& c, const InputConfig& config = {}) {
  for (const auto& content : {c.content, gzip(c.content)}) {
    const auto rows = read_text(content, c.name, config);
    EXPECT_EQ(rows.ids(), c.ids) << c.name << ": " << c.content;
    EXPECT_EQ(rows.texts(), c.texts) << c.name << ": " << c.content;
    EXPECT_EQ(rows.reasons(), c.reasons) << c.name << ": " << c.content;
  }
}

TEST(ItemSource, GoodFiles) {
  const Case cases[] = {
      {"a.txt", "", "", "", ""},
      {"a.txt", "x\ny\n", "0|1", "x|y", ""},
      {"a.txt", "x\r\n\r\ny", "0|1|2", "x||y", ""},
      {"a.txt", kMark + "x\n", "0", "x", ""},
      {"a.txt", "text\nid\ttext\n", "0|1", "text|id\ttext", ""},
      {"a.tsv", "", "", "", ""},
      {"a.tsv", "k\tx\n", "k", "x", ""},
      {"a.tsv", "id\ttext\n", "", "", ""},
      {"a.tsv", "id\ttext\nk\tx\nl\t\n", "k|l", "x|", ""},
      {"a.tsv", kMark + "id\ttext\r\nk\tx\r\n\r\n", "k", "x", ""},
      {"a.tsv", "text\tid\nx\tk\n", "k", "x", ""},
      {"a.tsv", "title\tid\tnote\ttext\nt\tk\tn\tx\n", "k", "x", ""},
      {"a.tsv", "text\nx\ny\n", "0|1", "x|y", ""},
      {"a.tsv", "x\ny\n", "0|1", "x|y", ""},
      {"a.tsv", "ID\tText\nk\tx\n", "ID|k", "Text|x", ""},
      {"a.tsv", "doc_id\ttext\nk\tx\n", "doc_id|k", "text|x", ""},
      {"a.tsv", "k\t\"x\"\n", "k", "\"x\"", ""},
      {"a.tsv", "k\tcaf\xE9\n", "k", "caf" + kBad, ""},
      {"a.csv", "id,text\nk,\"x, \"\"y\"\"\nz\"\n", "k", "x, \"y\"\nz", ""},
      {"a.csv", kMark + "\"id\",\"text\"\r\nk,x\r\n", "k", "x", ""},
      {"a.csv", "text\n\"x, y\"\n\"\"\n", "0|1", "x, y|", ""},
      {"a.csv", "k,x\nl,\n", "k|l", "x|", ""},
      {"a.jsonl", "", "", "", ""},
      {"a.jsonl", "{\"id\":\"k\",\"text\":\"x\\n\\u00e9\"}\n", "k", "x\n\xC3\xA9", ""},
      {"a.jsonl",
       kMark + "{\"text\":\"x\",\"id\":7,\"more\":{\"id\":[1,{}],\"text\":2}}\r\n\r\n "
               "{\"id\":\"l\",\"text\":\"\"}",
       "7|l", "x|", ""},
      {"a.jsonl",
       "{\"id\":-3,\"text\":\"x\"}\n{\"id\":18446744073709551615,\"text\":\"y\"}\n{\"id\":1.50,\"text\":"
       "\"z\"}",
       "-3|18446744073709551615|1.50", "x|y|z", ""},
      {"a.jsonl", "{\"text\":\"x\"}\n{\"id\":null,\"text\":\"y\"}\n", "0|1", "x|y", ""},
      {"a.jsonl", "{\"id\":\"k\",\"text\":\"a\\ud800b\\ud83d\\ude00\\udc00\\\\ud800\"}\n", "k",
       "a" + kBad + "b\xF0\x9F\x98\x80" + kBad + "\\ud800", ""},
      {"a.jsonl", "{\"id\":\"k\",\"text\":\"caf\xE9\"}\n", "k", "caf" + kBad, ""},
      {"A.JSONL.GZ", "{\"id\":\"k\",\"text\":\"x\"}", "k", "x", ""},
      {"a.ndjson", "{\"id\":\"k\",\"text\":\"x\"}", "k", "x", ""},
  };
  for (const auto& c : cases) expect_case(c);
}

/// Each file has good rows around the damaged one; only the damaged one may be lost.
TEST(ItemSource, DamagedRows) {
  const std::string deep = std::string(70, '[') + std::string(70, ']');
  const Case cases[] = {
      {"a.txt", "x\na\0b\ny"s, "0|2", "x|y", "2: the text holds a NUL byte"},
      {"a.txt", "x\n\xFF\xFE\ny", "0|1|2", "x|" + kBad + kBad + "|y", ""},
      {"a.tsv", "k\tx\nbroken\nl\ty\n", "k|l", "x|y", "2: the row has 1 columns; 2 are expected"},
      {"a.tsv", "k\tx\nm\ta\tb\nl\ty\n", "k|l", "x|y", "2: the row has 3 columns; 2 are expected"},
      {"a.tsv", "broken\nk\tx\nl\ty\n", "k|l", "x|y", "1: the row has 1 columns; 2 are expected"},
      {"a.tsv", "a\tb\tc\nk\tx\nl\ty\n", "k|l", "x|y", "1: the row has 3 columns; 2 are expected"},
      {"a.tsv", "k\tx\n\ta\nl\ty\n", "k|l", "x|y", "2: the id is empty"},
      {"a.tsv", "k\tx\n\t\nl\ty\n", "k|l", "x|y", "2: the id is empty"},
      {"a.tsv", "k\tx\n \nl\ty\n", "k|l", "x|y", "2: the row has 1 columns; 2 are expected"},
      {"a.tsv", "k\tx\n\0m\ta\nl\ty\n"s, "k|l", "x|y", "2: column 1 holds a NUL byte"},
      {"a.tsv", "k\tx\nm\ta\0\nl\ty\n"s, "k|l", "x|y", "2: column 2 holds a NUL byte"},
      {"a.tsv", "k\tx\nm\xFF\ta\nl\ty\n", "k|l", "x|y", "2: the id is not valid UTF-8"},
      {"a.tsv", "k\tx\n\xED\xA0\x80\ta\nl\ty\n", "k|l", "x|y", "2: the id is not valid UTF-8"},
      {"a.tsv", "k\tx\nm\t" + std::string(200, 'z') + "\nl\ty\n", "k|l", "x|y",
       "2: the row is longer than 120 bytes"},
      {"a.tsv", "id\ttext\nk\tx\nm\nl\ty\n", "k|l", "x|y", "3: the row has 1 columns; 2 are expected"},
      {"a.tsv", "id\tn\ttext\nk\t1\tx\nm\ta\nl\t1\ty\n", "k|l", "x|y",
       "3: the row has 2 columns; 3 are expected"},
      {"a.tsv", "id\tn\ttext\nk\t1\tx\nm\t\0\ta\nl\t1\ty\n"s, "k|l", "x|y", "3: column 2 holds a NUL byte"},
      {"a.tsv", "id\tte\0xt\nk\tx\n"s, "k", "x", "1: column 2 holds a NUL byte"},
      {"a.tsv", "text\nx\na\tb\ny\n", "0|2", "x|y", "3: the row has 2 columns; 1 are expected"},
      {"a.tsv", "k\tx\n" + std::string(50, '\t') + "\nl\ty\n", "k|l", "x|y",
       "2: the row has 51 columns; 2 are expected"},
      {"a.tsv", "k\tx\nm\ra\rb\nl\ty\n", "k|l", "x|y", "2: the row has 1 columns; 2 are expected"},
      {"a.csv", "k,x\nbroken\nl,y\n", "k|l", "x|y", "2: the row has 1 columns; 2 are expected"},
      {"a.csv", "k,x\nm,a,b\nl,y\n", "k|l", "x|y", "2: the row has 3 columns; 2 are expected"},
      {"a.csv", "k,x\n,a\nl,y\n", "k|l", "x|y", "2: the id is empty"},
      {"a.csv", "k,x\n\"\",a\nl,y\n", "k|l", "x|y", "2: the id is empty"},
      {"a.csv", "k,x\n\"m\",a\"b\nl,y\n", "k|l", "x|y",
       "2: column 2 holds a quote but does not start with one"},
      {"a.csv", "k,x\nm,\"a\"b\nl,y\n", "k|l", "x|y", "2: column 2 goes on after its closing quote"},
      {"a.csv", "k,x\nm,\"a\" \nl,y\n", "k|l", "x|y", "2: column 2 goes on after its closing quote"},
      {"a.csv", "k,x\nm,\"a\nl,y\n", "k|l", "x|y", "2: the quote that opens column 2 is never closed"},
      {"a.csv", "k,x\n\"m,a\nl,y\n", "k|l", "x|y", "2: the quote that opens column 1 is never closed"},
      {"a.csv", "k,x\nm,\"a\nl,\"y\"\n", "k|l", "x|y", "2: column 2 goes on after its closing quote"},
      {"a.csv", "k,x\nm,\"a\0\"\nl,y\n"s, "k|l", "x|y", "2: column 2 holds a NUL byte"},
      {"a.csv", "k,x\n\"m\nn\",a,b\nl,y\n", "k|l", "x|y", "2: the row has 3 columns; 2 are expected"},
      {"a.csv", "k,x\nm,\"" + std::string(200, 'z') + "\"\nl,y\n", "k|l", "x|y",
       "2: the row is longer than 120 bytes"},
      {"a.csv", "k,x\nm," + std::string(200, 'z') + "\nl,y\n", "k|l", "x|y",
       "2: the row is longer than 120 bytes"},
      {"a.csv", "k,x\nm\xC0\xAF,a\nl,y\n", "k|l", "x|y", "2: the id is not valid UTF-8"},
      {"a.csv", "id,text\nk,x\nm;a\nl,y\n", "k|l", "x|y", "3: the row has 1 columns; 2 are expected"},
      {"a.csv", "k,x\n\"m\nn\",a\nbad\nl,y\n", "k|m\nn|l", "x|a|y",
       "4: the row has 1 columns; 2 are expected"},
  };
  InputConfig config;
  config.max_row_bytes = 120;
  for (const auto& c : cases) expect_case(c, config);

  const std::pair<std::string, std::string> lines[] = {
      {"{\"id\":\"m\",\"text\":\"a\"", "2: broken JSON at byte 21 of the line: "},
      {"{\"id\":\"m\" \"text\":\"a\"}", "2: broken JSON at byte 16 of the line: "},
      {"{\"id\":\"m\",\"text\":\"a\"}}", "2: broken JSON at byte 22 of the line: "},
      {"{'id':'m'}", "2: broken JSON"},
      {"plain text", "2: broken JSON"},
      {"{\"id\":\"m\",\"text\":\"a\tb\"}", "2: broken JSON"},
      {"{\"id\":\"m\",\"text\":\"\\x\"}", "2: broken JSON"},
      {"[\"m\",\"a\"]", "2: the line is not a JSON object"},
      {"\"m\"", "2: the line is not a JSON object"},
      {"7", "2: the line is not a JSON object"},
      {"null", "2: the line is not a JSON object"},
      {"{}", "2: the key 'id' is missing"},
      {"{\"id\":\"m\"}", "2: the key 'text' is missing"},
      {"{\"id\":\"m\",\"text\":null}", "2: the key 'text' is missing"},
      {"{\"text\":\"a\"}", "2: the key 'id' is missing"},
      {"{\"id\":null,\"text\":\"a\"}", "2: the key 'id' is missing"},
      {"{\"id\":\"\",\"text\":\"a\"}", "2: the id is empty"},
      {"{\"id\":true,\"text\":\"a\"}", "2: 'id' is a boolean, not a string or number"},
      {"{\"id\":[1],\"text\":\"a\"}", "2: 'id' is an array, not a string or number"},
      {"{\"id\":\"m\",\"text\":5}", "2: 'text' is an integer, not a string"},
      {"{\"id\":\"m\",\"text\":{\"text\":\"a\"}}", "2: 'text' is an object, not a string"},
      {"{\"id\":\"m\",\"text\":\"a\",\"text\":\"b\"}", "2: the key 'text' occurs twice"},
      {"{\"id\":\"m\",\"id\":\"n\",\"text\":\"b\"}", "2: the key 'id' occurs twice"},
      {"{\"id\":\"m\",\"text\":\"a\0b\"}"s, "2: the line holds a NUL byte"},
      {"{\"id\":\"m\",\"text\":\"a\"}\0x"s, "2: the line holds a NUL byte"},
      {"{\"id\":\"m\",\"text\":\"a\\u0000b\"}", "2: the text holds a NUL byte"},
      {"{\"id\":\"m\\u0000\",\"text\":\"a\"}", "2: the id holds a NUL byte"},
      {"{\"id\":\"m\xFF\",\"text\":\"a\"}", "2: the id is not valid UTF-8"},
      {"{\"id\":\"m\\udfff\",\"text\":\"a\"}", "2: the id is not valid UTF-8"},
      {"{\"id\":\"m\",\"x\":" + deep + ",\"text\":\"a\"}", "2: the line is nested deeper than 64 levels"},
      {"{\"id\":\"m\",\"text\":\"" + std::string(300, 'z') + "\"}", "2: the row is longer than 220 bytes"},
  };
  config.max_row_bytes = 220;
  for (const auto& [line, reason] : lines) {
    const auto rows = read_text(
        "{\"id\":\"k\",\"text\":\"x\"}\n" + line + "\n{\"id\":\"l\",\"text\":\"y\"}\n", "a.jsonl", config);
    EXPECT_EQ(rows.ids(), "k|l") << line;
    EXPECT_EQ(rows.rejects.size(), 1u) << line;
    EXPECT_TRUE(rows.reasons().starts_with(reason)) << rows.reasons() << " for " << line;
  }
}

TEST(ItemSource, RejectsSayWhere) {
  const auto rows = read_text("id\ttext\nk\tx\n\nm\ta\tb\nl\ty\n", "a.tsv");
  ASSERT_EQ(rows.rejects.size(), 1u);
  EXPECT_EQ(rows.rejects[0].line, 4u);
  EXPECT_EQ(rows.rejects[0].byte_offset, 13u);
  EXPECT_EQ(rows.rejects[0].id, "m");
  EXPECT_EQ(reject_json_line(rows.rejects[0], {"da\xFFta/\"a\".tsv"}),
            "{\"file\":\"da" + kBad +
                "ta/\\\"a\\\".tsv\",\"line\":4,\"byte_offset\":13,\"id\":\"m\",\"reason\":\"the row has 3 "
                "columns; 2 are "
                "expected\"}\n");
  EXPECT_EQ(rows.items[1].line, 5u);
  EXPECT_EQ(rows.items[1].row, 1u);
}

TEST(ItemSource, IndexesCountRejectedRowsSoThatTheyStay) {
  const auto damaged = read_text("x\n\0\ny\n"s, "a.txt");
  EXPECT_EQ(damaged.ids(), "0|2");
  EXPECT_EQ(damaged.rejects[0].id, "1");
  EXPECT_EQ(damaged.items[1].row, 1u);
}

TEST(ItemSource, ConfiguredColumns) {
  InputConfig config;
  config.id_column = "number";
  config.text_column = "body";
  expect_case({"a.csv", "body,number\nx,7\n", "7", "x", ""}, config);
  expect_case({"a.csv", "id,text\nk,x\n", "id|k", "text|x", ""}, config);
  expect_case({"a.jsonl", "{\"number\":7,\"body\":\"x\",\"id\":1,\"text\":2}\n", "7", "x", ""}, config);
  config.id_column = "";
  expect_case({"a.tsv", "k\tbody\n1\tx\n2\ty\n", "0|1", "x|y", ""}, config);
  expect_case({"a.tsv", "k\tx\nl\ty\n", "0|1", "x|y", ""}, config);
  expect_case({"a.jsonl", "{\"\":3,\"id\":5,\"body\":\"x\"}\n", "0", "x", ""}, config);
  config.id_column = config.text_column = "body";
  expect_case({"a.tsv", "n\tbody\n1\tx\n", "x", "x", ""}, config);
  expect_case({"a.jsonl", "{\"body\":\"x\"}\n", "x", "x", ""}, config);
  config = {.format = InputFormat::kTxt};
  expect_case({"a.csv", "a,b\n", "0", "a,b", ""}, config);

  const std::pair<std::string, std::string> refused[] = {
      {"title\ttext\tn\n",
       "a.tsv: the column 'id' is not in the header ('title', 'text', 'n'); set input.id"},
      {"id\tbody\tn\n", "a.tsv: the column 'text' is not in the header ('id', 'body', 'n'); set input.text"},
      {"id\n", "a.tsv: the column 'text' is not in the header ('id'); set input.text"},
      {"id\ttext\ttext\n", "a.tsv: the column 'text' occurs 2 times in the header"},
  };
  for (const auto& [content, message] : refused)
    EXPECT_EQ(data_error_of([&] { read_text(content, "a.tsv"); }), message);
}

TEST(ItemSource, SeveralFilesInOrder) {
  const TemporaryFolder folder;
  folder.write("b/2.tsv", "id\ttext\nc\tx3\n");
  folder.write("b/1.tsv", "id\ttext\na\tx1\nbad\nb\tx2\n");
  folder.write("b/3.tsv.gz", gzip("text\tid\nx4\td\n") + gzip("x5\te\n"));
  folder.write("a.txt", "one\ntwo");
  folder.write("c.jsonl", "{\"id\":\"z\",\"text\":\"last\"}");
  folder.write("[x].txt", "odd name");
  folder.write("empty.txt", "");
  InputConfig config;
  config.paths = {folder.file("a.txt"),   folder.file("empty.txt"), folder.file("b/*.tsv*"),
                  folder.file("c.jsonl"), folder.file("[x].txt"),   folder.file("a.txt")};
  const auto source = open_text_source(config);
  const auto rows = read_rows(*source);
  EXPECT_EQ(rows.ids(), "0|1|a|b|c|d|e|z|9|10|11");
  EXPECT_EQ(rows.texts(), "one|two|x1|x2|x3|x4|x5|last|odd name|one|two");
  ASSERT_EQ(rows.rejects.size(), 1u);
  EXPECT_EQ(source->files().at(rows.rejects[0].file), folder.file("b/1.tsv"));
  EXPECT_EQ(source->files().size(), 8u);
  EXPECT_EQ(source->files().at(rows.items[5].file), folder.file("b/3.tsv.gz"));
  for (std::size_t i = 0; i < rows.items.size(); ++i) EXPECT_EQ(rows.items[i].row, i);

  for (std::uint64_t limit = 0; limit < 14; ++limit) {
    config.limit = limit;
    const auto some = read_rows(*open_text_source(config));
    EXPECT_EQ(some.items.size() + some.rejects.size(), std::min<std::uint64_t>(limit, 12));
  }
}

TEST(ItemSource, IdPrefixesOfPaths) {
  const TemporaryFolder folder;
  folder.write("a1.tsv", "id\ttext\n0\tx\n");
  folder.write("a2.tsv", "id\ttext\n1\ty\nbad\n");
  folder.write("b.txt", "z\n");
  InputConfig config;
  config.paths = {folder.file("a*.tsv"), folder.file("b.txt")};
  config.id_prefixes = {"train/", "test/"};
  EXPECT_EQ(read_rows(*open_text_source(config)).ids(), "train/0|train/1|test/3");
  config.id_prefixes = {"train/"};
  EXPECT_THROW(open_text_source(config), core::ConfigError);
}

TEST(ItemSource, MissingAndUnreadableInput) {
  const TemporaryFolder folder;
  folder.write("cut.tsv.gz", gzip("k\tx\nl\ty\n").substr(0, 20));
  folder.write("folder/x.tsv", "");
  folder.write("u.tsv",
               "\xff\xfe"
               "a\0"s);
  const auto message = [&](const std::string& path) {
    InputConfig config;
    config.paths = {path};
    return data_error_of([&] { read_rows(*open_text_source(config)); });
  };
  EXPECT_EQ(message(folder.file("none.tsv")),
            "input " + folder.file("none.tsv") + " does not exist and matches no file");
  EXPECT_EQ(message(folder.file("*.csv")),
            "input " + folder.file("*.csv") + " does not exist and matches no file");
  EXPECT_NE(message(folder.file("folder")).find("is a folder"), std::string::npos);
  EXPECT_NE(message(folder.file("cut.tsv.gz")).find("cut.tsv.gz: the gzip data ends early at byte 20"),
            std::string::npos);
  EXPECT_NE(message(folder.file("u.tsv")).find("UTF-16"), std::string::npos);
  EXPECT_THROW(open_text_source({}), core::DataError);
  EXPECT_THROW(input_format_from_name("tvs"), core::ConfigError);
  EXPECT_EQ(input_format_from_name("jsonl"), InputFormat::kJsonl);
  EXPECT_EQ(input_format_of_path("/x.y/a.HDF5"), InputFormat::kHdf5);
  EXPECT_THROW(input_format_of_path("/x.tsv/a"), core::ConfigError);
  EXPECT_THROW(read_text("", "a.h5"), core::ConfigError);
}

/// One per cent of 10,000 rows are damaged at random; every row is done or rejected, and undamaged rows are
/// untouched.
TEST(ItemSource, RandomDamageLosesOnlyWhatItHits) {
  for (const std::string& name : {"d.tsv"s, "d.csv"s, "d.jsonl"s, "d.txt"s}) {
    std::mt19937_64 random(21);
    std::string content;
    std::vector<std::string> expected;  // text by index, empty where the row was damaged
    std::size_t damaged = 0;
    for (int i = 0; i < 10'000; ++i) {
      const std::string id = "doc" + std::to_string(i),
                        text = "text of document " + std::to_string(i) + " caf\xC3\xA9";
      std::string line = name == "d.tsv"   ? id + "\t" + text
                         : name == "d.csv" ? id + (i % 2 ? ",\"" + text + ", quoted\"" : "," + text)
                         : name == "d.txt" ? text
                                           : "{\"id\":\"" + id + "\",\"text\":\"" + text + "\"}";
      expected.push_back(name == "d.csv" && i % 2 ? text + ", quoted" : text);
      if (random() % 100 == 0) {
        ++damaged;
        expected.back().clear();
        char byte = static_cast<char>(random());
        if (byte == '\n') byte = '\0';
        if (i % 3 == 0) line[random() % line.size()] = byte;
        if (i % 3 == 1) line.erase(random() % line.size(), 1 + random() % 5);
        if (i % 3 == 2) line.insert(random() % line.size(), 1, "\0\t\",{\xFF\r"[random() % 7]);
      }
      content += line + "\n";
    }
    const auto rows = read_text(content, name);
    if (name != "d.csv") {
      EXPECT_EQ(rows.items.size() + rows.rejects.size(), 10'000u) << name;
    }
    EXPECT_GT(damaged, 60u);
    std::size_t found = 0;
    std::map<std::string, std::string> text_of;
    for (const auto& item : rows.items) {
      EXPECT_TRUE(is_valid_utf8(item.text));
      text_of[item.text] = item.id;
    }
    for (const auto& text : expected) found += !text.empty() && text_of.contains(text);
    const std::size_t undamaged = 10'000 - damaged;
    // In CSV a lost quote can join a row with its neighbour.
    EXPECT_GE(found, name == "d.csv" ? undamaged - damaged : undamaged) << name;
    EXPECT_GT(rows.rejects.size(), 0u) << name;
  }
}

TEST(ItemSource, RandomBytesNeverCrash) {
  std::mt19937_64 random(31);
  const std::string alphabet = "{}[]:,\"\\ud8idtext01\n\r\t\xEF\xBB\xBF\xFF e"s + '\0';
  InputConfig config;
  config.max_row_bytes = 40;
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes(random() % 120, '\0');
    for (char& c : bytes) c = alphabet[random() % alphabet.size()];
    for (const char* name : {"a.tsv", "a.csv", "a.jsonl", "a.txt"}) {
      try {
        for (const auto& item : read_text(bytes, name, config).items)
          ASSERT_TRUE(is_valid_utf8(item.text) && is_valid_utf8(item.id));
      } catch (const core::DataError&) {
      }
    }
  }
}

TEST(ItemSource, ReadsTsvFast) {
  std::string content;
  for (int i = 0; i < 200'000; ++i)
    content +=
        "document" + std::to_string(i) + "\t" + std::string(300, static_cast<char>('a' + i % 26)) + "\n";
  const auto source = open_text_stream(memory_source(content), "a.tsv", {});
  Item item;
  Reject reject;
  const auto start = std::chrono::steady_clock::now();
  std::size_t items = 0;
  while (source->next(item, reject) == RowKind::kItem) ++items;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  RecordProperty("megabytes_per_second",
                 static_cast<int>(static_cast<double>(content.size()) / seconds / 1e6));
  EXPECT_EQ(items, 200'000u);
  EXPECT_LT(seconds, 5.0);  // 12 MB/s; what it does is recorded above
}

}  // namespace
}  // namespace muster::formats
