// SPDX-License-Identifier: Apache-2.0
#include "quern/server/metrics.h"

#include <gtest/gtest.h>

#include <cctype>
#include <cstring>
#include <map>
#include <set>
#include <sstream>
#include <vector>

namespace quern {
namespace {

using Engines = std::vector<std::pair<std::string, EngineFacts>>;

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

/// Reads the exposition format as its specification has it; fails the test where the text breaks it.
struct Reader {
  std::map<std::string, std::string> types;                            // of metrics
  std::map<std::pair<std::string, std::string>, std::string> samples;  // (metric, label as it was meant) -> number
  std::string family;                                                  // whose samples come now

  void read(const std::string& text) {
    ASSERT_TRUE(text.empty() || text.back() == '\n') << "the last line must end";
    for (const std::string& line : lines(text)) {
      std::istringstream in(line);
      std::string mark, word, name;
      if (line.starts_with("# ")) {
        in >> mark >> word >> name;
        if (word == "TYPE") {
          in >> types[name];
          EXPECT_TRUE(types[name] == "counter" || types[name] == "gauge") << line;
          EXPECT_EQ(types[name] == "counter", name.ends_with("_total")) << line;
          EXPECT_EQ(family, name) << "HELP and TYPE of a metric stand together";
        } else {
          ASSERT_EQ(word, "HELP") << line;
          EXPECT_FALSE(types.contains(name)) << name << " comes twice";
          family = name;
          EXPECT_GT(line.size(), name.size() + 8) << "no text";
        }
        continue;
      }
      sample(line);
    }
  }

  void sample(const std::string& line) {
    const size_t brace = line.find('{');
    ASSERT_NE(brace, line.npos) << line;
    const std::string name = line.substr(0, brace);
    for (const char c : name) EXPECT_TRUE(c == '_' || std::islower(static_cast<unsigned char>(c))) << name;
    EXPECT_EQ(name, family) << "a sample outside its metric";
    ASSERT_EQ(line.substr(brace, 8), "{model=\"") << line;
    std::string label;
    size_t at = brace + 8;
    for (; at < line.size() && line[at] != '"'; ++at) {
      if (line[at] != '\\') {
        label += line[at];
        continue;
      }
      const char escaped = line[++at];
      ASSERT_TRUE(escaped == 'n' || escaped == '"' || escaped == '\\') << line;
      label += escaped == 'n' ? '\n' : escaped;
    }
    ASSERT_EQ(line.substr(at, 3), "\"} ") << line;
    const std::string number = line.substr(at + 3);
    EXPECT_EQ(number.find_first_not_of("0123456789"), number.npos) << line;
    EXPECT_TRUE(samples.emplace(std::pair(name, label), number).second) << line << " comes twice";
  }
};

TEST(Metrics, are_prometheus_text_of_each_engine) {
  EngineFacts a, b;
  a.running = 3;
  a.pages_active = 12;
  a.generated_tokens = 9'000'000'000;
  b.cached_tokens = 77;
  Reader reader;
  reader.read(metrics_text(Engines{{"a", a}, {"b", b}}));
  for (const auto& [name, type] : reader.types) {
    EXPECT_TRUE(name.starts_with("quern_")) << name;
    for (const char* model : {"a", "b"}) EXPECT_TRUE(reader.samples.contains({name, model})) << name;
  }
  EXPECT_EQ(reader.samples.size(), 2 * reader.types.size());
  const auto value = [&](const char* name, const char* model) { return reader.samples[{name, model}]; };
  EXPECT_EQ(value("quern_requests_running", "a"), "3");
  EXPECT_EQ(value("quern_requests_running", "b"), "0");
  EXPECT_EQ(value("quern_kv_pages_active", "a"), "12");
  EXPECT_EQ(value("quern_tokens_generated_total", "a"), "9000000000");
  EXPECT_EQ(value("quern_prefix_cache_hit_tokens_total", "b"), "77");
}

TEST(Metrics, tell_every_fact_under_a_name_of_its_own) {
  // As many numbers as the struct has: a fact that was left out, or told twice, shows.
  constexpr size_t kFacts = sizeof(EngineFacts) / sizeof(int64_t);
  EngineFacts facts;
  std::set<std::string> expected;
  for (size_t i = 0; i < kFacts; ++i) {
    const auto number = static_cast<int64_t>(1000 + i);
    std::memcpy(reinterpret_cast<char*>(&facts) + i * sizeof number, &number, sizeof number);
    expected.insert(std::to_string(number));
  }
  Reader reader;
  reader.read(metrics_text(Engines{{"a", facts}}));
  std::set<std::string> found;
  for (const auto& [key, number] : reader.samples) found.insert(number);
  EXPECT_EQ(found, expected);
  EXPECT_EQ(reader.samples.size(), kFacts);
}

TEST(Metrics, escape_labels) {
  const std::string name = "C:\\models\\\"my\" model\n# TYPE x counter\nx 1\\";
  Reader reader;
  reader.read(metrics_text(Engines{{name, {}}}));
  EXPECT_EQ(reader.samples.size(), reader.types.size());
  for (const auto& [key, number] : reader.samples) EXPECT_EQ(key.second, name);
}

TEST(Metrics, have_their_types_without_engines) {
  Reader reader;
  reader.read(metrics_text({}));
  EXPECT_TRUE(reader.samples.empty());
  EXPECT_GT(reader.types.size(), 10u);
}

}  // namespace
}  // namespace quern
