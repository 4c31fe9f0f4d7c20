// SPDX-License-Identifier: Apache-2.0
#include "muster/text/lower_case.h"

#include <gtest/gtest.h>

namespace muster::text {
namespace {

// Expected values are those of Python's str.lower().
TEST(LowerCase, FullMappings) {
  struct Case {
    const char* text;
    const char* expected;
  };
  for (const auto& c : {Case{"", ""},
                        {"Hello, WORLD 42", "hello, world 42"},
                        {"ÄÖÜ ẞ", "äöü ß"},
                        {"ΟΔΟΣ ΣΑΣ", "οδος σας"},
                        {"İ", "i̇"},
                        {"ＡＢＣ", "ａｂｃ"},
                        {"日本", "日本"}}) {
    EXPECT_EQ(lower_case(c.text), c.expected) << c.text;
  }
}

TEST(LowerCase, ATextThatGrowsFitsToo) {
  std::string text, expected;
  for (int i = 0; i < 1000; ++i) {
    text += "İ";  // two bytes become three
    expected += "i̇";
  }
  EXPECT_EQ(lower_case(text), expected);
}

}  // namespace
}  // namespace muster::text
