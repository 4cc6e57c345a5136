// SPDX-License-Identifier: Apache-2.0
// Help, manual, completion and documentation of the real commands: nothing of the tables is missing anywhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "quern/cli/arguments.h"
#include "quern/cli/completion.h"
#include "quern/cli/help.h"
#include "quern/cli/manual.h"
#include "quern/cli/sampling_arguments.h"
#include "quern/cli/terminal.h"

namespace quern {
namespace {

using testing::HasSubstr;

std::span<const Command* const> commands() { return {command_table, static_cast<size_t>(command_table_size)}; }

std::vector<const OptionSpec*> options_of(const Command& command) {
  std::vector<const OptionSpec*> out;
  for (const OptionSpec& option : command.options) out.push_back(&option);
  for (const OptionSpec& option : common_options) out.push_back(&option);
  return out;
}

TEST(Tables, are_well_formed) {
  for (const Command* command : commands()) {
    std::set<std::string_view> names;
    EXPECT_TRUE(command->run) << command->name;
    EXPECT_FALSE(command->summary.empty() || command->description.empty()) << command->name;
    EXPECT_TRUE(command->summary.ends_with('.')) << command->summary;
    EXPECT_FALSE(command->examples.empty()) << command->name;
    bool optional = false;
    for (const PositionalSpec& positional : command->positionals) {
      EXPECT_FALSE(positional.required && optional) << command->name << ": nothing required behind what is not";
      optional = !positional.required;
    }
    for (const OptionSpec* option : options_of(*command)) {
      EXPECT_TRUE(names.insert(option->name).second) << command->name << " has " << option->name << " twice";
      EXPECT_TRUE(option->name.starts_with("--")) << option->name;
      EXPECT_TRUE(option->help.ends_with('.')) << option->name;
      EXPECT_EQ(option->metavar.empty(), option->type == OptionType::flag) << option->name;
      EXPECT_EQ(option->choices.empty(), option->type != OptionType::choice) << option->name;
      EXPECT_EQ(option->help.find('\\'), std::string_view::npos) << "fish reads it: " << option->name;
    }
  }
}

TEST(Tables, help_tells_of_everything_within_the_width) {
  for (int width : {40, 80, 100}) {
    EXPECT_THAT(program_help(commands(), width), HasSubstr("Usage: quern COMMAND"));
    for (const Command* command : commands()) {
      EXPECT_THAT(program_help(commands(), width), HasSubstr(std::string(command->name)));
      const std::string help = command_help(*command, width);
      for (const OptionSpec* option : options_of(*command)) EXPECT_THAT(help, HasSubstr(option_heading(*option)));
      for (const PositionalSpec& positional : command->positionals)
        EXPECT_THAT(help, HasSubstr(std::string(positional.name)));
      std::istringstream lines(help);
      for (std::string line; std::getline(lines, line);) {
        const bool may_be_long = line.starts_with("    quern") || line.starts_with("Usage:") ||
                                 line.find(' ', 26) == std::string::npos || line.starts_with("    ");
        if (width >= 80 && !may_be_long) {
          EXPECT_LE(display_width(line), width) << line;
        }
      }
    }
  }
}

TEST(Tables, manual_and_completion_tell_of_everything) {
  const std::string bash = bash_completion(commands()), zsh = zsh_completion(commands()),
                    fish = fish_completion(commands());
  for (const Command* command : commands()) {
    EXPECT_THAT(program_manual(commands(), "1"), HasSubstr(std::string(command->name)));
    const std::string manual = command_manual(*command, "1");
    for (const std::string* script : {&bash, &zsh, &fish}) EXPECT_THAT(*script, HasSubstr(std::string(command->name)));
    for (const OptionSpec* option : options_of(*command)) {
      EXPECT_THAT(manual, HasSubstr(roff(option->name)));
      EXPECT_THAT(bash, HasSubstr(std::string(option->name)));
      EXPECT_THAT(zsh, HasSubstr(std::string(option->name) + "["));
      EXPECT_THAT(fish, HasSubstr("-l " + std::string(option->name.substr(2)) + " "));
      for (std::string_view choice : option->choices)
        for (const std::string* script : {&bash, &zsh, &fish}) EXPECT_THAT(*script, HasSubstr(std::string(choice)));
    }
  }
}

TEST(Tables, the_documentation_is_what_the_tables_say) {
  std::ifstream file(std::string(QUERN_SOURCE_DIR) + "/docs/cli.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), markdown_manual(commands())) << "run: quern man --markdown > docs/cli.md";
}

TEST(Tables, every_sampling_option_has_its_effect) {
  for (const OptionSpec& option : kSamplingOptions) {
    if (option.repeatable) continue;
    SamplingOptions changed;
    changed.temperature = -1, changed.top_k = -1, changed.top_p = -1, changed.min_p = -1, changed.typical_p = -1,
    changed.repeat_penalty = -1, changed.presence_penalty = -1, changed.frequency_penalty = -1;
    set_sampling(changed, option.name, 0.5);
    const int differ = (changed.temperature != -1) + (changed.top_k != -1) + (changed.top_p != -1) +
                       (changed.min_p != -1) + (changed.typical_p != -1) + (changed.repeat_penalty != -1) +
                       (changed.presence_penalty != -1) + (changed.frequency_penalty != -1);
    EXPECT_EQ(differ, 1) << option.name;
  }
}

TEST(Manual, roff_keeps_dashes_and_backslashes_and_hides_requests) {
  EXPECT_EQ(roff("--a\\b"), "\\-\\-a\\eb");
  EXPECT_EQ(roff(".TH x\n'y"), "\\&.TH x\n\\&'y");
}

TEST(Help, wraps_between_words) {
  EXPECT_THAT(wrap("aa bb cc", 5), testing::ElementsAre("aa bb", "cc"));
  EXPECT_THAT(wrap("aa\n  bb", 5), testing::ElementsAre("aa", "bb"));
  EXPECT_THAT(wrap("longer_than_it x", 5), testing::ElementsAre("longer_than_it", "x"));
  EXPECT_THAT(wrap("", 5), testing::ElementsAre(""));
}

TEST(Sampling, biases_are_an_id_and_a_number) {
  EXPECT_EQ(parse_logit_bias("5=-1.5").value(), std::pair(5, -1.5F));
  EXPECT_EQ(parse_logit_bias("5=+2").value().second, 2);
  EXPECT_TRUE(std::isinf(parse_logit_bias("5=-inf").value().second));
  for (const char* wrong :
       {"", "5", "=1", "5=", "x=1", "5=x", "-1=0", "5=inf", "5=nan", "5=1000", "5=1x", "99999999999=1"})
    EXPECT_FALSE(parse_logit_bias(wrong)) << wrong;
}

TEST(Sampling, what_the_makers_recommend_replaces_the_usual_defaults) {
  const SamplingOptions usual = default_sampling({});
  EXPECT_FLOAT_EQ(usual.temperature, 0.8F);
  EXPECT_EQ(usual.top_k, 40);
  GenerationDefaults advice;
  advice.temperature = 0.6F;
  advice.top_k = 20;
  const SamplingOptions advised = default_sampling(advice);
  EXPECT_FLOAT_EQ(advised.temperature, 0.6F);
  EXPECT_EQ(advised.top_k, 20);
  EXPECT_FLOAT_EQ(advised.top_p, 1);  // they did not ask for it
  EXPECT_FLOAT_EQ(advised.min_p, 0);
}

}  // namespace
}  // namespace quern
