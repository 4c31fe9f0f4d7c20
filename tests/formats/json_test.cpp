// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/json.h"

#include <chrono>
#include <random>

#include "testing.h"

namespace muster::formats {
namespace {

using testing::data_error_of;

JsonValue parse(std::string_view text, const JsonLimits& limits = {}) {
  return parse_json(text, "c.json", limits);
}

TEST(Json, ValuesComeOutAsTheyWentIn) {
  const auto json =
      parse(R"({"a": -5, "b": 18446744073709551615, "c": 1e-12, "d": "x\u00e9\n\ud83d\ude00", "e": null,
                              "f": [true, false, [], {}], "g": {"h": {"i": 7}}, "": "empty"})");
  EXPECT_EQ(json.get<std::int32_t>("a"), -5);
  EXPECT_EQ(json.get<std::int64_t>("a"), -5);
  EXPECT_EQ(json.get<double>("a"), -5.0);
  EXPECT_EQ(json.get<std::uint64_t>("b"), UINT64_MAX);
  EXPECT_EQ(json.get<double>("c"), 1e-12);
  EXPECT_EQ(json.get<float>("c"), 1e-12f);
  EXPECT_EQ(json.at("d").view(), "x\xC3\xA9\n\xF0\x9F\x98\x80");
  EXPECT_TRUE(json.at("e").is_null());
  EXPECT_EQ(json.get_or<std::int32_t>("e", 3), 3);
  EXPECT_EQ(json.get_or<std::string>("nothing", "x"), "x");
  EXPECT_EQ(json.at("f").size(), 4u);
  EXPECT_TRUE(json.at("f").element(0).as<bool>());
  EXPECT_EQ(json.at("f").element(2).size(), 0u);
  EXPECT_TRUE(json.at("f").element(3).is_object());
  EXPECT_EQ(json.at("g").at("h").get<std::uint32_t>("i"), 7u);
  EXPECT_EQ(json.get<std::string>(""), "empty");
  EXPECT_FALSE(json.has("z"));
  std::string keys;
  for (const auto& [key, value] : json.members()) keys += std::string(key) + ",";
  EXPECT_EQ(keys, "a,b,c,d,e,f,g,,");
  EXPECT_EQ(parse("[3, 1, 2]").as_list<std::int32_t>(), (std::vector<std::int32_t>{3, 1, 2}));
  EXPECT_EQ(parse(" 12 ").as<std::int32_t>(), 12);
}

TEST(Json, LargeObjectsKeepOrderAndFindEveryKey) {
  std::string text = "{";
  for (int i = 0; i < 5000; ++i)
    text += (i ? ",\"k" : "\"k") + std::to_string(i * 7919 % 5003) + "\":" + std::to_string(i);
  const auto json = parse(text + "}");
  int expected = 0;
  for (const auto& [key, value] : json.members()) {
    EXPECT_EQ(key, "k" + std::to_string(expected * 7919 % 5003));
    EXPECT_EQ(value.as<std::int32_t>(), expected);
    EXPECT_EQ(json.get<std::int32_t>(key), expected);
    ++expected;
  }
  EXPECT_EQ(expected, 5000);
  EXPECT_FALSE(json.has("k5002x"));
}

TEST(Json, AccessErrorsNameFileAndPlace) {
  struct Case {
    const char* text;
    void (*access)(const JsonValue&);
    const char* message;
  };
  const Case cases[] = {
      {"{}", [](const JsonValue& v) { v.at("hidden_size"); }, "c.json: key 'hidden_size' is missing"},
      {R"({"a":{"b":{}}})", [](const JsonValue& v) { v.at("a").at("b").at("c"); },
       "c.json: key 'a.b.c' is missing"},
      {R"({"a":"x"})", [](const JsonValue& v) { v.get<std::int32_t>("a"); },
       "c.json: key 'a' is a string, not an integer"},
      {R"({"a":1.0})", [](const JsonValue& v) { v.get<std::int32_t>("a"); },
       "c.json: key 'a' is a number, not an integer"},
      {R"({"a":-1})", [](const JsonValue& v) { v.get<std::uint32_t>("a"); },
       "c.json: key 'a' is -1, but must not be negative"},
      {R"({"a":3000000000})", [](const JsonValue& v) { v.get<std::int32_t>("a"); },
       "c.json: key 'a' is 3000000000, which does not fit 32 bits"},
      {R"({"a":4294967296})", [](const JsonValue& v) { v.get<std::uint32_t>("a"); },
       "c.json: key 'a' is 4294967296, which does not fit 32 bits"},
      {R"({"a":18446744073709551615})", [](const JsonValue& v) { v.get<std::int64_t>("a"); },
       "c.json: key 'a' is 18446744073709551615, too large"},
      {R"({"a":1})", [](const JsonValue& v) { v.get<std::string>("a"); },
       "c.json: key 'a' is an integer, not a string"},
      {R"({"a":null})", [](const JsonValue& v) { v.get<bool>("a"); },
       "c.json: key 'a' is null, not a boolean"},
      {R"({"a":[0,[1,{"x":true}]]})",
       [](const JsonValue& v) { v.at("a").element(1).element(1).get<double>("x"); },
       "c.json: key 'a[1][1].x' is a boolean, not a number"},
      {R"({"a":[0]})", [](const JsonValue& v) { v.at("a").element(1); },
       "c.json: key 'a' has 1 elements; number 1 is missing"},
      {R"({"a":[0]})", [](const JsonValue& v) { v.at("a").at("b"); },
       "c.json: key 'a' is an array, not an object"},
      {R"({"a":{}})", [](const JsonValue& v) { v.at("a").elements(); },
       "c.json: key 'a' is an object, not an array"},
      {"[]", [](const JsonValue& v) { v.members(); }, "c.json: the document is an array, not an object"},
      {"7", [](const JsonValue& v) { v.size(); }, "c.json: the document is an integer, not an array"},
      {R"({"a":{"b\u001b[2J":1}})", [](const JsonValue& v) { v.at("a").get<bool>("b\x1b[2J"); },
       "c.json: key 'a.b\\x1b[2J' is an integer, not a boolean"},
  };
  for (const auto& c : cases) {
    const auto json = parse(c.text);
    EXPECT_EQ(data_error_of([&] { c.access(json); }), c.message);
  }
}

TEST(Json, RefusesBadDocuments) {
  std::string deep65(65, '['), many = "{";
  deep65 += std::string(65, ']');
  for (int i = 0; i < 40; ++i) many += "\"k" + std::to_string(i) + "\":1,";
  struct Case {
    std::string text, part;
  };
  const Case cases[] = {
      {"", "broken JSON at byte 1"},
      {"{", "broken JSON"},
      {"{}{}", "broken JSON at byte 3"},
      {"{\"a\":1,}", "broken JSON"},
      {"{'a':1}", "broken JSON"},
      {"[1 2]", "broken JSON"},
      {"[01]", "broken JSON"},
      {"[NaN]", "broken JSON"},
      {"[1e999]", "broken JSON"},
      {"// c\n{}", "broken JSON"},
      {"[\"\xff\"]", "broken JSON at byte 3"},
      {"[\"\xed\xa0\x80\"]", "broken JSON"},
      {"[\"\\ud800\"]", "broken JSON"},
      {"[\"a\nb\"]", "broken JSON"},
      {std::string("{}\0garbage", 10), "NUL byte"},
      {std::string("[\"\0\"]", 5), "NUL byte"},
      {R"({"a":1,"b":2,"a":3})", "key 'a' occurs twice in the document"},
      {R"({"a":1,"\u0061":3})", "key 'a' occurs twice in the document"},
      {R"({"x":{"y":[0,{"a":1,"a":3}]}})", "key 'a' occurs twice in 'x.y[]'"},
      {many + "\"k7\":2}", "key 'k7' occurs twice in the document"},
      {deep65, "nested deeper than 64 levels"},
      {std::string(3'000'000, '['), "nested deeper than 64 levels"},
  };
  for (const auto& c : cases) {
    const auto message = data_error_of([&] { parse(c.text); });
    EXPECT_NE(message.find(c.part), std::string::npos) << message << " for " << c.text.substr(0, 60);
    EXPECT_TRUE(message.starts_with("c.json: ")) << message;
    EXPECT_LT(message.size(), 500u);
  }
  EXPECT_NO_THROW(parse(std::string(64, '[') + std::string(64, ']')));
}

TEST(Json, LimitsHold) {
  EXPECT_NE(data_error_of([] { parse("[1,2,3]", {.max_values = 3}); }).find("more than 3 values"),
            std::string::npos);
  EXPECT_NO_THROW(parse("[1,2,3]", {.max_values = 4}));
  EXPECT_NE(data_error_of([] { parse("[1,2,3]", {.max_bytes = 6}); }).find("at most 6"), std::string::npos);
}

TEST(Json, ViewsOutliveTheHandleAndTemporaryRangesAreSafe) {
  std::string joined;
  for (const auto& [key, value] : parse(R"({"a":"1","b":"2"})").members())
    joined += std::string(key) + value.as<std::string>();
  EXPECT_EQ(joined, "a1b2");
}

TEST(Json, AVocabularyOf250kParsesFast) {
  std::string text = "{\"model\":{\"vocab\":{";
  for (int i = 0; i < 250'000; ++i)
    text += (i ? ",\"token" : "\"token") + std::to_string(i) + "\": " + std::to_string(i);
  text += "}}}";
  const auto start = std::chrono::steady_clock::now();
  const auto json = parse(text);
  const auto vocab = json.at("model").at("vocab");
  EXPECT_EQ(vocab.get<std::uint32_t>("token123456"), 123456u);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  RecordProperty("milliseconds", static_cast<int>(seconds * 1e3));
  EXPECT_EQ(vocab.size(), 250'000u);
  EXPECT_LT(seconds, 2.0);  // about 0.05 s; a quadratic parser needs minutes
}

TEST(Json, RandomDamageNeverCrashes) {
  const std::string good =
      R"({"a":[1,2.5,"x\u00e9",{"b":null}],"model":{"vocab":{"t":1,"u":2}},"z":[[[true]]]})";
  std::mt19937_64 random(7);
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string bad = good;
    for (std::uint64_t n = random() % 3 + 1; n > 0; --n)
      bad[random() % bad.size()] = static_cast<char>(random());
    try {
      parse(bad).at("a").size();
    } catch (const core::DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 5'000);
}

}  // namespace
}  // namespace muster::formats
