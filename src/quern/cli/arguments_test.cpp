// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace quern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view kColours[] = {"red", "green"};
constexpr OptionSpec kOptions[] = {
    {.name = "--temp", .metavar = "T", .help = "Heat.", .type = OptionType::number, .min = -2, .max = 2},
    {.name = "--count", .metavar = "N", .help = "How many.", .type = OptionType::integer, .min = 1, .max = 10},
    {.name = "--text", .metavar = "TEXT", .help = "Words.", .type = OptionType::text, .repeatable = true},
    {.name = "--colour", .metavar = "C", .help = "Which.", .type = OptionType::choice, .choices = kColours},
    {.name = "--raw", .help = "As it is."},
};
constexpr PositionalSpec kPositionals[] = {{.name = "MODEL", .help = "A model."},
                                           {.name = "PROMPT", .help = "A text.", .required = false}};
const Command kGrind = {
    .name = "grind", .summary = "Grinds.", .description = "Grinds.", .positionals = kPositionals, .options = kOptions};
const Command kSift = {.name = "sift", .summary = "Sifts.", .description = "Sifts."};
const Command* const kCommands[] = {&kGrind, &kSift};

Result<Invocation> parse(std::vector<std::string> words) { return parse_command_line(kCommands, words); }

std::string error_of(std::vector<std::string> words) {
  const auto result = parse(std::move(words));
  return result ? "no error" : result.error().message;
}

TEST(Arguments, takes_values_after_a_blank_or_an_equals_sign) {
  const auto line = parse({"grind", "m", "--temp", "-1.5", "--count=7", "--text", "a b", "--text=", "--raw"});
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(line->command, &kGrind);
  EXPECT_EQ(line->arguments.number("--temp"), -1.5);
  EXPECT_EQ(line->arguments.integer("--count"), 7);
  EXPECT_THAT(line->arguments.texts("--text"), ElementsAre("a b", ""));
  EXPECT_TRUE(line->arguments.has("--raw"));
  EXPECT_FALSE(line->arguments.has("--colour"));
  EXPECT_THAT(line->arguments.positionals(), ElementsAre("m"));
}

TEST(Arguments, the_last_of_an_option_counts) {
  const auto line = parse({"grind", "--count", "1", "m", "--count", "2"});
  ASSERT_TRUE(line);
  EXPECT_EQ(line->arguments.integer("--count"), 2);
}

TEST(Arguments, after_two_dashes_all_words_are_positional) {
  const auto line = parse({"grind", "--raw", "--", "--raw", "-x"});
  ASSERT_TRUE(line);
  EXPECT_THAT(line->arguments.positionals(), ElementsAre("--raw", "-x"));
}

TEST(Arguments, odd_words_are_taken_as_they_are) {
  const auto line = parse({"grind", "-", "sift"});  // a lone dash; a command's name as a prompt
  ASSERT_TRUE(line);
  EXPECT_THAT(line->arguments.positionals(), ElementsAre("-", "sift"));
  const auto braces = parse({"grind", "", "{}", "--text", "{}"});
  ASSERT_TRUE(braces);
  EXPECT_THAT(braces->arguments.positionals(), ElementsAre("", "{}"));
  EXPECT_EQ(braces->arguments.text("--text"), "{}");
}

TEST(Arguments, an_unknown_name_is_answered_with_the_nearest) {
  EXPECT_EQ(error_of({"gridn", "m"}), "unknown command 'gridn': did you mean grind? (quern --help lists all)");
  EXPECT_EQ(error_of({"gri"}), "unknown command 'gri': did you mean grind? (quern --help lists all)");
  for (const char* far : {"frobnicate", "xyz", "x", ""})
    EXPECT_EQ(error_of({far}), fmt::format("unknown command '{}' (quern --help lists all)", far));
  EXPECT_THAT(error_of({"grind", "m", "--frobnicate"}), HasSubstr("did you mean --"));
  EXPECT_EQ(error_of({"grind", "m", "--tempp", "1"}), "grind: unknown option '--tempp': did you mean --temp?");
  EXPECT_EQ(error_of({"grind", "m", "--thread=1"}), "grind: unknown option '--thread': did you mean --threads?");
  EXPECT_EQ(error_of({"grind", "m", "-5"}),
            "grind: unknown option '-5': put -- before an argument that begins with a dash");
  EXPECT_THAT(error_of({"--verison"}), HasSubstr("--version"));
}

TEST(Arguments, a_wrong_value_is_answered_with_what_is_right) {
  EXPECT_EQ(error_of({"grind", "m", "--temp", "3"}), "grind: --temp: expected a number from -2 to 2, found '3'");
  EXPECT_EQ(error_of({"grind", "m", "--temp", "nan"}), "grind: --temp: expected a number from -2 to 2, found 'nan'");
  EXPECT_EQ(error_of({"grind", "m", "--count", "many"}),
            "grind: --count: expected an integer from 1 to 10, found 'many'");
  EXPECT_EQ(error_of({"grind", "m", "--count", "1.5"}),
            "grind: --count: expected an integer from 1 to 10, found '1.5'");
  EXPECT_EQ(error_of({"grind", "m", "--count", "99999999999999999999"}),
            "grind: --count: expected an integer from 1 to 10, found '99999999999999999999'");
  EXPECT_EQ(error_of({"grind", "m", "--count="}), "grind: --count: expected an integer from 1 to 10, found ''");
  EXPECT_EQ(error_of({"grind", "m", "--colour", "blue"}), "grind: --colour: expected one of red, green, found 'blue'");
  EXPECT_EQ(error_of({"grind", "m", "--raw=1"}), "grind: --raw: expected no value, found '1'");
  EXPECT_EQ(error_of({"grind", "m", "--count"}), "grind: --count: expected an integer from 1 to 10, found nothing");
  EXPECT_EQ(error_of({"grind", "m", "--text", "--raw"}),
            "grind: --text: expected a text, found the option --raw (write --text=--raw to mean it)");
}

TEST(Arguments, missing_and_surplus_words_are_named) {
  EXPECT_EQ(error_of({"grind"}), "grind: expected MODEL, found nothing (quern grind --help)");
  EXPECT_EQ(error_of({"grind", "m", "p", "q"}), "grind: expected no argument after PROMPT, found one more: 'q'");
  EXPECT_EQ(error_of({"sift", "m"}), "sift: expected no argument, found one more: 'm'");
  EXPECT_EQ(error_of({}), "expected a command, found nothing (quern --help lists them)");
  EXPECT_EQ(error_of({"--json", "grind"}), "expected a command before the option '--json'");
}

TEST(Arguments, help_and_version_win_over_what_is_missing) {
  EXPECT_EQ(parse({"grind", "--help"})->kind, Invocation::Kind::help);
  EXPECT_EQ(parse({"grind", "-h"})->command, &kGrind);
  EXPECT_EQ(parse({"help", "sift"})->command, &kSift);
  EXPECT_EQ(parse({"--help"})->command, nullptr);
  EXPECT_EQ(parse({"--version"})->kind, Invocation::Kind::version);
  EXPECT_EQ(parse({"grind", "--version"})->kind, Invocation::Kind::version);
  const auto forced = parse({"--isa", "avx2", "--version"});
  ASSERT_TRUE(forced) << forced.error().message;
  EXPECT_EQ(forced->kind, Invocation::Kind::version);
  EXPECT_EQ(forced->arguments.text("--isa"), "avx2");
}

TEST(Arguments, sizes_are_powers_of_1024) {
  EXPECT_EQ(parse_size("4096"), 4096);
  EXPECT_EQ(parse_size("8G"), int64_t{8} << 30);
  EXPECT_EQ(parse_size("512M"), int64_t{512} << 20);
  EXPECT_EQ(parse_size("1.5GiB"), int64_t{3} << 29);
  EXPECT_EQ(parse_size("2kb"), 2048);
  EXPECT_EQ(parse_size("1T"), int64_t{1} << 40);
  for (const char* wrong : {"", "G", "8X", "-1", "8GG", "1e3", "8 G", "9000000T", "1.2.3"})
    EXPECT_EQ(parse_size(wrong), std::nullopt) << wrong;
}

TEST(Arguments, any_words_end_in_a_result_of_one_line) {
  std::mt19937 random(7);
  const std::string pieces[] = {
      "grind", "--", "-", "--temp", "=", "--count", "1", "\n", "\xff", "--raw", "é", "--json", std::string(300, 'x')};
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> words = {"grind"};
    for (int n = static_cast<int>(random() % 6); n > 0; --n) {
      std::string word;
      for (int k = static_cast<int>(random() % 3); k >= 0; --k) word += pieces[random() % std::size(pieces)];
      words.push_back(word);
    }
    const auto result = parse(words);
    if (!result) {
      EXPECT_LT(result.error().message.size(), 450u);
    }
  }
}

}  // namespace
}  // namespace quern
