// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/table.h"

#include <random>

#include "formats/window.h"
#include "testing.h"

namespace muster::formats {
namespace {

/// "line@offset[field|field]" or "line@offset!problem" for each row; places count from behind `lead_bytes` of
/// one line.
std::string describe(TableReader& reader, std::size_t lead_bytes = 0) {
  std::string out;
  TableRow row;
  if (lead_bytes > 0) {
    EXPECT_TRUE(reader.next(row));
  }
  while (reader.next(row)) {
    out += (out.empty() ? "" : " ") + std::to_string(row.line - (lead_bytes > 0 ? 1 : 0)) + "@" +
           std::to_string(row.byte_offset - lead_bytes);
    if (!row.problem.empty()) {
      EXPECT_TRUE(row.fields.empty());
      out += "!" + row.problem;
      continue;
    }
    out += "[";
    for (std::size_t i = 0; i < row.fields.size(); ++i)
      out += (i > 0 ? "|" : "") + std::string(row.fields[i]);
    out += "]";
  }
  return out;
}

using Maker = std::unique_ptr<TableReader> (*)(std::unique_ptr<ByteSource>, std::size_t);

/// The same rows must come out wherever the border between two blocks falls.
void expect_rows(Maker make, const std::string& text, const std::string& rows) {
  EXPECT_EQ(describe(*make(memory_source(text), kDefaultMaxRowBytes)), rows) << text;
  if (text.starts_with('\xEF')) return;  // a byte-order mark is one only at the front
  for (std::size_t border = 0; border <= text.size(); ++border) {
    const std::size_t lead = Window::kBlockBytes - border;
    const std::string whole = std::string(lead - 1, 'x') + "\n" + text;
    EXPECT_EQ(describe(*make(memory_source(whole), kDefaultMaxRowBytes), lead), rows)
        << "border at " << border << " of " << text;
  }
}

TEST(Csv, RowsByTheBookAndBrokenOnes) {
  struct Case {
    std::string text, rows;
  };
  const Case cases[] = {
      {"", ""},
      {"\n\r\n\n", ""},
      {"a,b\n", "1@0[a|b]"},
      {"a,b", "1@0[a|b]"},
      {"a,b\r\nc,d\r\n", "1@0[a|b] 2@5[c|d]"},
      {"a,b\n\nc,d\n\n", "1@0[a|b] 3@5[c|d]"},
      {"\xEF\xBB\xBF"
       "a,b\n",
       "1@3[a|b]"},
      {"\xEF\xBB\xBF\"a\",b\n", "1@3[a|b]"},
      {",\n", "1@0[|]"},
      {",", "1@0[|]"},
      {"a,\n", "1@0[a|]"},
      {"\"\"\n", "1@0[]"},
      {"\"a,b\",c\n", "1@0[a,b|c]"},
      {"\"a\"\"b\",\"\"\"\"\n", "1@0[a\"b|\"]"},
      {"\"\"\"a\"\"\"", "1@0[\"a\"]"},
      {"\"a\nb\",c\nd,e\n", "1@0[a\nb|c] 3@8[d|e]"},
      {"\"a\r\nb\",c\r\nd,e\r\n", "1@0[a\r\nb|c] 3@10[d|e]"},
      {"\"a\n\n\n\",c\nd,e", "1@0[a\n\n\n|c] 5@9[d|e]"},
      {"\"a\",\"b\"", "1@0[a|b]"},
      {"\"a\",\"b\"\r", "1@0[a|b]"},
      {" a , b \n", "1@0[ a | b ]"},
      {"a\rb,c\n", "1@0[a\rb|c]"},
      {"a,b\r", "1@0[a|b]"},
      {"a;b\tc\n", "1@0[a;b\tc]"},
      {"a\"b,c\nd,e\n", "1@0!column 1 holds a quote but does not start with one 2@6[d|e]"},
      {"a, \"b\"\nd,e\n", "1@0!column 2 holds a quote but does not start with one 2@7[d|e]"},
      {"\"a\"b,c\nd,e\n", "1@0!column 1 goes on after its closing quote 2@7[d|e]"},
      {"\"a\" ,c\nd,e\n", "1@0!column 1 goes on after its closing quote 2@7[d|e]"},
      {"\"a\"\rx\nd,e\n", "1@0!column 1 goes on after its closing quote 2@6[d|e]"},
      {"\"a,b\nc,d\ne,f\n", "1@0!the quote that opens column 1 is never closed 2@5[c|d] 3@9[e|f]"},
      {"a,\"b\nc,d\n", "1@0!the quote that opens column 2 is never closed 2@5[c|d]"},
      {"a,\"b", "1@0!the quote that opens column 2 is never closed"},
      {"\"", "1@0!the quote that opens column 1 is never closed"},
      {"a,\"b\"\"", "1@0!the quote that opens column 2 is never closed"},
      // A lost quote swallows rows up to the next quote; the rows it swallowed are read again.
      {"a,\"b\nc,d\ne,\"f\"\ng,h\n",
       "1@0!column 2 goes on after its closing quote 2@5[c|d] 3@9[e|f] 4@15[g|h]"},
  };
  for (const auto& c : cases) {
    expect_rows(make_csv_reader, c.text, c.rows);
  }
}

TEST(Tsv, RowsAreLinesWithoutQuoting) {
  struct Case {
    std::string text, rows;
  };
  const Case cases[] = {
      {"", ""},
      {"a\tb\n", "1@0[a|b]"},
      {"a\tb\r\n\r\n\nc\td", "1@0[a|b] 4@8[c|d]"},
      {"\xEF\xBB\xBF"
       "a\tb\n",
       "1@3[a|b]"},
      {"\"a\tb\"\n", "1@0[\"a|b\"]"},
      {"\t\n", "1@0[|]"},
      {"a\n", "1@0[a]"},
      {"a\t\t\n", "1@0[a||]"},
      {" \n", "1@0[ ]"},
      {"a\rb\tc\r\r\n", "1@0[a\rb|c\r]"},
  };
  for (const auto& c : cases) {
    expect_rows(make_tsv_reader, c.text, c.rows);
  }
}

TEST(Lines, EmptyLinesCount) {
  EXPECT_EQ(describe(*make_line_reader(memory_source("a\tb\n\n\r\nc"))), "1@0[a\tb] 2@4[] 3@5[] 4@7[c]");
  EXPECT_EQ(describe(*make_line_reader(memory_source("\n"))), "1@0[]");
}

TEST(Table, LongRowsAndManyColumnsAreRejected) {
  const std::string too_long = "the row is longer than 10 bytes";
  EXPECT_EQ(describe(*make_tsv_reader(memory_source("0123456789\n01234567890\nx\n"), 10)),
            "1@0[0123456789] 2@11!" + too_long + " 3@23[x]");
  EXPECT_EQ(describe(*make_csv_reader(memory_source("0123456789\n01234567890\nx\n"), 10)),
            "1@0[0123456789] 2@11!" + too_long + " 3@23[x]");
  EXPECT_EQ(describe(*make_csv_reader(memory_source("a,\"0123456789\nb,c\n"), 10)),
            "1@0!" + too_long + " 2@14[b|c]");
  EXPECT_EQ(describe(*make_tsv_reader(memory_source("x\n01234567890"), 10)), "1@0[x] 2@2!" + too_long);
  EXPECT_EQ(describe(*make_tsv_reader(memory_source(std::string(5000, '\t') + "\nx\n"))),
            "1@0!the row has more than 4096 columns 2@5001[x]");
  EXPECT_EQ(describe(*make_csv_reader(memory_source(std::string(5000, ',') + "\nx\n"))),
            "1@0!the row has more than 4096 columns 2@5001[x]");
}

/// The heap in use grows by the row's cap, not by the row.
TEST(Table, AnEndlessRowNeedsBoundedMemory) {
  class Endless final : public ByteSource {
   public:
    std::size_t read(std::span<char> out) override {
      if (left_ == 0) return 0;
      largest = std::max(largest, out.size());
      const std::size_t n = std::min(out.size(), left_);
      std::fill_n(out.begin(), n, 'x');
      left_ -= n;
      if (left_ == 0) out[n - 1] = '\n';
      return n;
    }
    std::size_t largest = 0;

   private:
    std::size_t left_ = std::size_t{300} << 20;
  };
  const auto peak_kib = [] {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
      if (word == "VmHWM:") return status >> word, std::stol(word);
    }
    return 0l;
  };
  const long before = peak_kib();
  for (const auto make : {make_tsv_reader, make_csv_reader, make_line_reader}) {
    EXPECT_EQ(describe(*make(std::make_unique<Endless>(), std::size_t{1} << 20)),
              "1@0!the row is longer than 1048576 bytes");
  }
  EXPECT_LT(peak_kib() - before, 32 * 1024);
}

TEST(Csv, WhatIsWrittenIsReadBack) {
  std::mt19937_64 random(5);
  const std::string alphabet = "ab ,\"\n\r\t;\xC3\xA9";
  std::string text;
  std::vector<std::string> fields;
  for (int i = 0; i < 3000; ++i) {
    std::string field(random() % 8, '\0');
    for (char& c : field) c = alphabet[random() % alphabet.size()];
    text += csv_field(field) + (i % 3 == 2 ? "\r\n" : ",");
    fields.push_back(field);
  }
  const auto reader = make_csv_reader(memory_source(text));
  TableRow row;
  std::size_t at = 0;
  while (reader->next(row)) {
    ASSERT_EQ(row.problem, "");
    ASSERT_EQ(row.fields.size(), 3u);
    for (const auto field : row.fields) ASSERT_EQ(field, fields[at++]);
  }
  EXPECT_EQ(at, fields.size());
}

/// Resynchronising must not read the rest of a file again for every stray quote.
TEST(Csv, StrayQuotesCostLinearTime) {
  for (const std::string& line : {std::string("1,\"lost quote\n"), std::string("\"a\"\"b\n"),
                                  std::string("\"x\" y\n"), std::string("1,\"\"\"\n")}) {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += line;
    const auto reader = make_csv_reader(memory_source(text));
    TableRow row;
    std::size_t rows = 0;
    std::uint64_t offset = 0;
    while (reader->next(row)) {
      ++rows;
      ASSERT_TRUE(rows == 1 || row.byte_offset > offset);
      offset = row.byte_offset;
    }
    EXPECT_GE(rows, 50'000u);
  }
}

TEST(Csv, RandomBytesNeverCrashAndBordersDoNotMatter) {
  std::mt19937_64 random(9);
  const std::string alphabet =
      "a,\"\n\r\xFF"
      "b";
  for (int i = 0; i < 3000; ++i) {
    std::string text(random() % 60, '\0');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    const std::size_t lead = Window::kBlockBytes - random() % 61;
    const std::string whole = std::string(lead - 1, 'x') + "\n" + text;
    for (const Maker make : {make_csv_reader, make_tsv_reader}) {
      ASSERT_EQ(describe(*make(memory_source(text), kDefaultMaxRowBytes)),
                describe(*make(memory_source(whole), kDefaultMaxRowBytes), lead));
    }
  }
}

}  // namespace
}  // namespace muster::formats
