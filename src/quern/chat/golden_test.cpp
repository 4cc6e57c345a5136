// SPDX-License-Identifier: Apache-2.0
// Against Python's Jinja2 with the environment of Hugging Face's apply_chat_template.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "quern/chat/chat_template.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string text_of(const Json& object, const char* key) {
  const Json* value = object.find(key);
  return value && value->is_string() ? value->string() : std::string();
}

/// 2026-01-15 10:30:00, the frozen clock of the reference.
std::tm frozen_clock() {
  std::tm now{};
  now.tm_year = 126, now.tm_mday = 15, now.tm_hour = 10, now.tm_min = 30;
  return now;
}

fs::path own_data() { return fs::path(QUERN_SOURCE_DIR) / "tests/data/templates"; }

fs::path shared_folder() {
  for (const char* name : {"QUERN_SHARED_DATA", "QUERN_SHARED"})
    if (const char* value = std::getenv(name)) return value;
  return fs::path(QUERN_SOURCE_DIR) / "../shared";
}

struct Outcome {
  std::string text, error;
  bool failed = false;
};

Outcome render(const std::string& source, const Json& context) {
  const auto compiled = ChatTemplate::compile(source);
  if (!compiled) return {{}, compiled.error().message, true};
  const auto out = compiled->render(context, frozen_clock());
  if (!out) return {{}, out.error().message, true};
  return {join_segments(*out), {}, false};
}

void expect_outcome(const Json& expectation, const Outcome& got, const std::string& what) {
  if (expectation.find("expected")) {
    EXPECT_FALSE(got.failed) << what << ": " << got.error;
    EXPECT_EQ(got.text, text_of(expectation, "expected")) << what;
    return;
  }
  const std::string kind = text_of(expectation, "error_kind");
  if (kind == "raised") {
    EXPECT_TRUE(got.failed) << what;
    EXPECT_EQ(got.error, text_of(expectation, "error")) << what;
  } else if (expectation.find("expected_if_mutable")) {
    EXPECT_TRUE(got.failed || got.text == text_of(expectation, "expected_if_mutable")) << what << ": " << got.text;
  } else {
    EXPECT_TRUE(got.failed) << what << ": expected an error like " << text_of(expectation, "error") << ", found "
                            << got.text;
    EXPECT_EQ(got.error.find('\n'), std::string::npos) << what;
  }
}

Json context_of(const Json& golden, const Json& c) {
  Json context;
  for (const char* key : {"messages", "tools", "documents"}) context.set(key, c.find(key) ? *c.find(key) : Json());
  context.set("add_generation_prompt",
              c.find("add_generation_prompt") ? *c.find("add_generation_prompt") : Json(false));
  context.set("bos_token", *golden.find("bos_token")).set("eos_token", *golden.find("eos_token"));
  if (const Json* more = c.find("kwargs"); more && more->is_object())
    for (const auto& [key, value] : more->object()) context.set(key, value);
  return context;
}

/// Renders every case of one file; how many there were.
int check_template(const fs::path& golden_path, const fs::path& template_path) {
  const auto golden = Json::parse(read_file(golden_path));
  EXPECT_TRUE(golden) << golden_path;
  if (!golden) return 0;
  const std::string source = read_file(template_path);
  int n = 0;
  for (const Json& c : golden->find("cases")->array()) {
    expect_outcome(c, render(source, context_of(*golden, c)), golden_path.stem().string() + ": " + text_of(c, "name"));
    ++n;
  }
  return n;
}

TEST(GoldenTemplates, everyday_ones_render_as_jinja2_does) {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(own_data())) {
    if (entry.path().extension() != ".jinja") continue;
    EXPECT_GE(check_template(fs::path(entry.path()).replace_extension(".json"), entry.path()), 70);
    ++files;
  }
  EXPECT_GE(files, 4);
}

TEST(GoldenTemplates, all_published_ones_render_as_jinja2_does) {
  const fs::path folder = shared_folder() / "golden/templates";
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not here";
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().stem().string() + ".jinja";
    fs::path source = shared_folder() / "data/chat-templates" / name;
    if (!fs::exists(source)) source = folder / name;
    if (entry.path().extension() != ".json" || !fs::exists(source)) continue;
    EXPECT_GE(check_template(entry.path(), source), 70);
    ++files;
  }
  EXPECT_GE(files, 17);
}

/// What chat templates do not need: an error is right too, other text never.
bool may_refuse(const Json& c) {
  const std::string source = text_of(c, "template"), expected = text_of(c, "expected");
  const auto contains = [](const std::string& text, std::string_view what) {
    return text.find(what) != std::string::npos;
  };
  for (const char* tag : {"wordwrap", "groupby", "{% block", "autoescape"})
    if (contains(source, tag)) return true;
  for (const char* object :
       {"<function", "<bound", "<built-in", "<generator", "<Macro", "<Namespace", "<jinja2", "<class"})
    if (contains(expected, object)) return true;
  size_t digits = 0, longest = 0;
  for (const char ch : expected) {
    digits = ch >= '0' && ch <= '9' ? digits + 1 : 0;
    longest = std::max(longest, digits);
  }
  return longest >= 19 && !contains(source, "tojson");
}

TEST(GoldenTemplates, the_language_is_that_of_jinja2) {
  const auto golden = Json::parse(read_file(own_data() / "jinja-language.json"));
  ASSERT_TRUE(golden);
  int refused = 0;
  for (const Json& c : golden->find("cases")->array()) {
    const Outcome got = render(text_of(c, "template"), c.find("context") ? *c.find("context") : Json(Json::Object{}));
    if (c.find("expected") && got.failed && may_refuse(c)) {
      ++refused;
      continue;
    }
    expect_outcome(c, got, text_of(c, "template"));
  }
  EXPECT_GE(golden->find("cases")->array().size(), 360u);
  EXPECT_LE(refused, 6);
}

}  // namespace
}  // namespace quern
