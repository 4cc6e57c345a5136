// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/reasoning.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

using Parts = std::pair<std::string, std::string>;

Parts split(std::string_view text, size_t piece, AnswerPlace place = AnswerPlace::start) {
  ReasoningSplitter splitter(place);
  Parts out;
  const auto add = [&](const ReasoningSplitter::Piece& p) { out.first += p.reasoning, out.second += p.answer; };
  for (size_t at = 0; at < text.size(); at += piece) add(splitter.push(text.substr(at, piece)));
  add(splitter.flush());
  return out;
}

struct Case {
  std::string_view text;
  Parts expected;
  AnswerPlace place = AnswerPlace::start;
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
      {"opened by the prompt</think>then", {"opened by the prompt", "then"}, AnswerPlace::opened},
      {"\n opened</think>then", {"opened", "then"}, AnswerPlace::opened},
      {" goes on </think>\nthen", {" goes on", "then"}, AnswerPlace::reasoning},
      {"</think>then", {"", "then"}, AnswerPlace::reasoning},
      {"", {"", ""}},
      {"   ", {"", "   "}},
  };
  for (const Case& c : cases)
    for (size_t piece = 1; piece <= c.text.size() + 1; ++piece)
      EXPECT_EQ(split(c.text, piece, c.place), c.expected) << c.text << " in pieces of " << piece;
}

TEST(Reasoning, holds_nothing_back_that_is_certain) {
  ReasoningSplitter splitter(AnswerPlace::start);
  EXPECT_EQ(splitter.push("Hello").answer, "Hello");
  EXPECT_EQ(splitter.push(" <think>").answer, " <think>");
  ReasoningSplitter thinking(AnswerPlace::start);
  EXPECT_EQ(thinking.push("<think>one two ").reasoning, "one two");
  EXPECT_EQ(thinking.push("three <").reasoning, " three");
}

TEST(AnswerPlace, knows_when_the_template_opened_the_reasoning) {
  EXPECT_EQ(answer_place("<|im_start|>assistant\n<think>\n"), AnswerPlace::opened);
  EXPECT_EQ(answer_place("<|im_start|>assistant\n<think>\n\n</think>\n\n"), AnswerPlace::start);
  EXPECT_EQ(answer_place(""), AnswerPlace::start);
}

TEST(AnswerPlace, knows_when_a_begun_answer_is_still_reasoning) {
  const auto place = [](std::string_view before, std::string_view begun) {
    return answer_place(std::string(before).append(begun), begun.size());
  };
  EXPECT_EQ(place("assistant\n", "<think>\nFirst I"), AnswerPlace::reasoning);
  EXPECT_EQ(place("assistant\n", "<think>\n"), AnswerPlace::opened);
  EXPECT_EQ(place("assistant\n<think>\n", "First I"), AnswerPlace::reasoning);
  EXPECT_EQ(place("assistant\n", "<think>\nFirst</think>"), AnswerPlace::closed);
  EXPECT_EQ(place("assistant\n", "<think>\nFirst</think>So"), AnswerPlace::answer);
  EXPECT_EQ(place("assistant\n", "The tag <think> marks"), AnswerPlace::answer);
  EXPECT_EQ(place("user\n<think>assistant\n", "So it"), AnswerPlace::answer) << "what a user wrote opens nothing";
}

}  // namespace
}  // namespace quern
