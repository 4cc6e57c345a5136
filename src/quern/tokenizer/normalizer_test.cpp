// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/normalizer.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <chrono>
#include <cstdlib>
#include <random>
#include <string>

#include "quern/base/utf8.h"
#include "quern/tokenizer/base64.h"

namespace quern {
namespace {

/// The library's own whole-string functions.
std::string reference(const std::string& text, UnicodeForm form) {
  const auto* in = reinterpret_cast<const utf8proc_uint8_t*>(text.c_str());
  utf8proc_uint8_t* out = form == UnicodeForm::nfc    ? utf8proc_NFC(in)
                          : form == UnicodeForm::nfd  ? utf8proc_NFD(in)
                          : form == UnicodeForm::nfkc ? utf8proc_NFKC(in)
                                                      : utf8proc_NFKD(in);
  std::string result(reinterpret_cast<char*>(out));
  std::free(out);
  return result;
}

TEST(NormalizeUnicode, equals_the_library_on_random_text) {
  const char32_t alphabet[] = {U'a',      U'e',      U' ',          U'\u00E9', U'\u0301', U'\u0316', U'\u0327',
                               U'\u1100', U'\u1161', U'\u11A8',     U'\uAC00', U'\uFB01', U'\u2126', U'\u0958',
                               U'\u1E9B', U'\u0323', U'\U0001D15E', U'\u4E2D', U'\uFF21', U'\u00B2'};
  std::mt19937 random(5);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int i = 0; i < round % 14; ++i) utf8_append(text, alphabet[random() % std::size(alphabet)]);
    for (const UnicodeForm form : {UnicodeForm::nfc, UnicodeForm::nfd, UnicodeForm::nfkc, UnicodeForm::nfkd})
      ASSERT_EQ(normalize_unicode(text, form), reference(text, form)) << text;
  }
}

TEST(NormalizeUnicode, broken_bytes_pass_and_part_what_stands_around_them) {
  EXPECT_EQ(normalize_unicode("e\xFF\u0301", UnicodeForm::nfc), "e\xFF\u0301");
  EXPECT_EQ(normalize_unicode("e\u0301\xFF", UnicodeForm::nfc), "\u00E9\xFF");
  EXPECT_EQ(normalize_unicode("\xE4\xB8", UnicodeForm::nfkd), "\xE4\xB8");
}

TEST(NormalizeUnicode, a_long_run_of_unordered_marks_is_sorted_quickly) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i)
    text += i % 2 ? "\u0316" : "\u0301";  // classes 220 and 230 in turn: the worst for insertion
  const auto start = std::chrono::steady_clock::now();
  const std::string out = normalize_unicode(text, UnicodeForm::nfd);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_EQ(out.size(), text.size());
  EXPECT_EQ(out.substr(1, 4), "\u0316\u0316");
}

Normalizer normalizer(std::string_view json) {
  auto parsed = Json::parse(json);
  EXPECT_TRUE(parsed.has_value());
  auto made = Normalizer::from_json(&*parsed);
  EXPECT_TRUE(made.has_value()) << (made ? "" : made.error().message);
  return made ? *std::move(made) : Normalizer();
}

TEST(Normalizer, steps_run_in_order) {
  const auto n = normalizer(
      R"({"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]})");
  EXPECT_EQ(n.apply("a b", true), "▁a▁b");
  EXPECT_EQ(n.apply("", true), "");
}

TEST(Normalizer, replaces_by_regex_strips_and_folds) {
  EXPECT_EQ(normalizer(R"({"type":"Replace","pattern":{"Regex":" {2,}"},"content":"_"})").apply("a   b c", true),
            "a_b c");
  EXPECT_EQ(normalizer(R"({"type":"Strip","strip_left":true,"strip_right":false})").apply(" \u3000a ", true), "a ");
  EXPECT_EQ(normalizer(R"({"type":"Strip","strip_left":true,"strip_right":true})").apply("  ", true), "");
  EXPECT_EQ(normalizer(R"({"type":"Lowercase"})").apply("ÄB\xFF", true), "äb\xFF");
  EXPECT_EQ(
      normalizer(R"({"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"StripAccents"}]})").apply("é", true),
      "e");
}

TEST(Normalizer, refuses_unknown_kinds_by_name_and_text_that_would_explode) {
  for (const char* json : {R"({"type":"Rot13"})", R"({"type":"Sequence"})", R"([1])",
                           R"x({"type":"Replace","pattern":{"Regex":"(?<=a)"},"content":""})x",
                           R"({"type":"Precompiled","precompiled_charsmap":"!"})",
                           R"({"type":"Precompiled","precompiled_charsmap":"/////w=="})"}) {
    const auto parsed = Json::parse(json);
    EXPECT_FALSE(Normalizer::from_json(&*parsed).has_value()) << json;
  }
  Json bomb = Json(Json::Object{{"type", "Prepend"}, {"prepend", std::string(100'000, 'x')}});
  EXPECT_FALSE(Normalizer::from_json(&bomb).has_value());
  Json deep = Json(Json::Object{{"type", "NFC"}});
  for (int i = 0; i < 100; ++i) deep = Json(Json::Object{{"type", "Sequence"}, {"normalizers", Json::Array{deep}}});
  EXPECT_FALSE(Normalizer::from_json(&deep).has_value());
}

TEST(Base64, decodes_and_refuses) {
  EXPECT_EQ(base64_decode("aGVsbG8="), "hello");
  EXPECT_EQ(base64_decode("aGVsbG8"), "hello");
  EXPECT_EQ(base64_decode("/+8="), "\xFF\xEF");
  EXPECT_EQ(base64_decode(""), "");
  EXPECT_FALSE(base64_decode("a").has_value());
  EXPECT_FALSE(base64_decode("a b=").has_value());
}

}  // namespace
}  // namespace quern
