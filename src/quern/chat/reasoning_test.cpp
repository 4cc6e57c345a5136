// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/reasoning.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

using Parts = std::pair<std::string, std::string>;

Parts split(std::string_view text, size_t piece, bool inside = false) {
  ReasoningSplitter splitter(inside);
  Parts out;
  const auto add = [&](const ReasoningSplitter::Piece& p) { out.first += p.reasoning, out.second += p.answer; };
  for (size_t at = 0; at < text.size(); at += piece) add(splitter.push(text.substr(at, piece)));
  add(splitter.flush());
  return out;
}

struct Case {
  std::string_view text;
  Parts expected;
  bool inside = false;
};

TEST(Reasoning, is_taken_apart_however_the_text_is_cut) {
  const Case cases[] = {
      {"<think>\nwhy\n\nbecause\n</think>\n\nSo.\n", {"why\n\nbecause", "So.\n"}},
      {"\n <think>x</think>y", {"x", "y"}},
      {"plain answer", {"", "plain answer"}},
      {"\n\nplain", {"", "\n\nplain"}},
      {"<b>no</b> <think>late</think>", {"", "<b>no</b> <think>late</think>"}},
      {"<thin", {"", "<thin"}},
      {"<think>cut short \n", {"cut short", ""}},
      {"<think></think>\n\nnothing thought", {"", "nothing thought"}},
      {"<think>a < b </thin </think>c", {"a < b </thin", "c"}},
      {"opened by the prompt</think>then", {"opened by the prompt", "then"}, true},
      {"", {"", ""}},
      {"   ", {"", "   "}},
  };
  for (const Case& c : cases)
    for (size_t piece = 1; piece <= c.text.size() + 1; ++piece)
      EXPECT_EQ(split(c.text, piece, c.inside), c.expected) << c.text << " in pieces of " << piece;
}

TEST(Reasoning, holds_nothing_back_that_is_certain) {
  ReasoningSplitter splitter(false);
  EXPECT_EQ(splitter.push("Hello").answer, "Hello");
  EXPECT_EQ(splitter.push(" <think>").answer, " <think>");
  ReasoningSplitter thinking(false);
  EXPECT_EQ(thinking.push("<think>one two ").reasoning, "one two");
  EXPECT_EQ(thinking.push("three <").reasoning, " three");
}

TEST(EndsInReasoning, knows_when_the_template_opened_the_reasoning) {
  EXPECT_TRUE(ends_in_reasoning("<|im_start|>assistant\n<think>\n"));
  EXPECT_FALSE(ends_in_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
  EXPECT_FALSE(ends_in_reasoning(""));
}

}  // namespace
}  // namespace quern
