// SPDX-License-Identifier: Apache-2.0
// Templates come with downloaded models: none may crash, hang, or eat the memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "quern/base/sanitized.h"
#include "quern/chat/chat_template.h"

namespace quern {
namespace {

std::string repeated(std::string_view text, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}

/// The error of compiling or rendering; empty if there is none.
std::string error_of(const std::string& source, const std::string& context = "{}", const RenderLimits& limits = {}) {
  const auto compiled = ChatTemplate::compile(source);
  if (!compiled) return compiled.error().message;
  const auto out = compiled->render(*Json::parse(context), std::tm{}, limits);
  return out ? std::string() : out.error().message;
}

TEST(TemplateLimits, parentheses_thousands_deep_are_an_error) {
  for (const int n : {300, 6'000, kSanitized ? 20'000 : 100'000}) {
    EXPECT_THAT(error_of("{{ " + repeated("(", n) + "1" + repeated(")", n) + " }}"),
                testing::HasSubstr("nested deeper"))
        << n;
    EXPECT_NE(error_of("{{ " + repeated("(", n)), "") << n;
    EXPECT_NE(error_of("{{ " + repeated("[", n) + repeated("]", n) + " }}"), "") << n;
    EXPECT_NE(error_of("{{ " + repeated("{1:", n) + "1" + repeated("}", n) + " }}"), "") << n;
    EXPECT_NE(error_of("{{ " + repeated("not ", n) + "1 }}"), "") << n;
    EXPECT_NE(error_of("{{ " + repeated("- ", n) + "1 }}"), "") << n;
    EXPECT_NE(error_of("{{ 1" + repeated(" if 1 else 1", n) + " }}"), "") << n;
    EXPECT_NE(error_of("{{ a" + repeated(".b", n) + " }}"), "") << n;
    EXPECT_NE(error_of("{{ a" + repeated("[0]", n) + " }}"), "") << n;
    EXPECT_NE(error_of("{{ a" + repeated("()", n) + " }}"), "") << n;
    EXPECT_NE(error_of("{{ a" + repeated("|d", n) + " }}"), "") << n;
    EXPECT_NE(error_of("{% set a" + repeated("|d", n) + " %}{% endset %}"), "") << n;
    EXPECT_NE(error_of(repeated("{% if 1 %}", n) + repeated("{% endif %}", n)), "") << n;
    EXPECT_NE(error_of(repeated("{% for a in b %}", n) + repeated("{% endfor %}", n)), "") << n;
    EXPECT_NE(error_of(repeated("{% macro a() %}", n)), "") << n;
    EXPECT_NE(error_of("{% set " + repeated("(", n) + "a" + repeated(")", n) + " = 1 %}"), "") << n;
    EXPECT_NE(error_of("{% for " + repeated("(", n) + " in x %}"), "") << n;
  }
}

TEST(TemplateLimits, long_but_flat_templates_are_fine) {
  EXPECT_EQ(error_of("{{ 1" + repeated(" + 1", 5'000) + " }}"), "");
  EXPECT_EQ(error_of("{{ 'a'" + repeated(" ~ 'a'", 5'000) + " }}"), "");
  EXPECT_EQ(error_of("{{ 1" + repeated(" and 1", 5'000) + repeated(" or 1", 5'000) + " }}"), "");
  EXPECT_EQ(error_of("{% if 0 %}" + repeated("{% elif 0 %}", 5'000) + "{% endif %}"), "");
  EXPECT_EQ(error_of("{{ [" + repeated("1,", 5'000) + "] }}"), "");
  EXPECT_EQ(error_of(repeated("(", 60) + "{{ " + repeated("(", 60) + "1" + repeated(")", 60) + " }}"), "");
}

TEST(TemplateLimits, endless_work_is_an_error) {
  const char* const sources[] = {
      "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% "
      "endfor %}",
      "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
      "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(100) }}",
      "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{% set ns = namespace(x=[]) %}{% for a in range(99999) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
      "{% set ns = namespace(x='aaaaaaaaaa') %}{% for a in range(9999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "{% set ns = namespace(x='aaaaaaaaaa') %}{% for a in range(9999) %}{% set ns.x = ns.x|replace('a', ns.x) %}{% "
      "endfor %}",
      "{% set x = 'ab' * 1000000 %}{% for a in range(99999) %}{% set y = x|upper %}{% endfor %}",
      "{% set x = 'ab' * 1000000 %}{% for a in range(99999) %}{% set y = x.split('b') %}{% endfor %}",
      "{% set x = 'a' * 1000000 %}{% for a in range(99999) %}{% if 'b' in x %}{% endif %}{% endfor %}",
      "{% set x = 'a' * 1000000 %}{% for a in range(99999) %}{% if x == x ~ '' %}{% endif %}{% endfor %}",
      "{% set x = range(99999)|list %}{% for a in range(99999) %}{% if -1 in x %}{% endif %}{% endfor %}",
      "{% set x = range(99999)|list %}{% for a in range(99999) %}{% set y = x|sort %}{% endfor %}",
      "{% set x = [] %}{% for a in range(99999) %}{% set y = x.extend(range(99999)) %}{% endfor %}",
  };
  RenderLimits limits;
  limits.max_steps = kSanitized ? 200'000 : 1'000'000;  // fewer than the default keep this test short
  for (const char* source : sources) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_NE(error_of(source, "{}", limits), "") << source;
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    // A million steps take well under a second; the margin is for sanitizers and loaded machines.
    EXPECT_LT(seconds.count(), 30) << source;
  }
}

TEST(TemplateLimits, big_memory_is_refused_before_it_is_taken) {
  const char* const sources[] = {
      "{{ 'x' * 10**9 }}",
      "{{ 'x' * 9223372036854775807 }}",
      "{{ [1] * 10**9 }}",
      "{{ (1,) * 9223372036854775807 }}",
      "{{ 'x'|center(10**9) }}",
      "{{ 'x'.ljust(10**12) }}",
      "{{ 'x'.zfill(10**10) }}",
      "{{ '%1000000000d' % 1 }}",
      "{{ '%.100000000d' % 1 }}",
      "{{ '{:1000000000}'.format(1) }}",
      "{{ '%*d' % (10**9, 1) }}",
      "{{ 'a\nb'|indent(10**10) }}",
      "{{ '\t'.expandtabs(10**10) }}",
      "{{ range(10**9) }}",
      "{{ range(10**18)|list }}",
      "{{ range(-9223372036854775807, 9223372036854775807) }}",
      "{{ [1]|batch(10**10, 'x')|list }}",
      "{{ [1]|slice(10**10)|list }}",
      "{{ 'aaaaaaaa'|replace('', 'x' * 100000000) }}",
      "{{ [1, 2, 3]|join('x' * 200000000) }}",
      "{% set x = 'x' * 10**7 %}{{ [x, x, x, x, x, x, x, x, x, x]|tojson }}{{ [x, x, x, x, x, x, x, x]|string }}{{ x ~ "
      "x ~ x ~ x }}"
      "{{ x * 20 }}{{ x * 20 }}",
      "{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}",
  };
  for (const char* source : sources) EXPECT_NE(error_of(source), "") << source;
}

TEST(TemplateLimits, each_budget_ends_a_rendering) {
  RenderLimits few_steps;
  few_steps.max_steps = 1000;
  EXPECT_THAT(error_of("{% for a in range(5000) %}{% endfor %}", "{}", few_steps), testing::HasSubstr("steps"));
  RenderLimits small_output;
  small_output.max_output_bytes = 100;
  EXPECT_THAT(error_of("{{ 'x' * 101 }}", "{}", small_output), testing::HasSubstr("writes more than 100"));
  EXPECT_EQ(error_of("{{ 'x' * 100 }}", "{}", small_output), "");
  RenderLimits small_memory;
  small_memory.max_memory_bytes = 100'000;
  EXPECT_THAT(error_of("{% set x = 'x' * 200000 %}", "{}", small_memory), testing::HasSubstr("memory"));
  RenderLimits shallow;
  shallow.max_depth = 20;
  const std::string recursive = "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(";
  EXPECT_EQ(error_of(recursive + "15) }}", "{}", shallow), "");
  EXPECT_THAT(error_of(recursive + "25) }}", "{}", shallow), testing::HasSubstr("deeper"));
  EXPECT_EQ(error_of(recursive + "100) }}"), "");
}

TEST(TemplateLimits, values_that_contain_themselves_or_nest_deeply_do_not_use_up_the_stack) {
  const std::string loop_list = "{% set x = [] %}{% set _ = x.append(x) %}";
  const std::string loop_dict = "{% set d = {} %}{% set _ = d.update({'d': d}) %}";
  EXPECT_NE(error_of(loop_list + "{{ x }}"), "");
  EXPECT_NE(error_of(loop_list + "{{ x|tojson }}"), "");
  EXPECT_NE(error_of(loop_list + "{% set y = [] %}{% set _ = y.append(y) %}{{ x == y }}"), "");
  EXPECT_EQ(error_of(loop_list + "{{ x == x }}"), "");
  EXPECT_NE(error_of(loop_dict + "{{ d }}"), "");
  EXPECT_NE(error_of(loop_dict + "{{ d|tojson(indent=2) }}"), "");
  const std::string deep =
      "{% set ns = namespace(x=(1,)) %}{% for a in range(99999) %}{% set ns.x = (ns.x,) %}{% endfor %}";
  EXPECT_EQ(error_of(deep), "") << "only its end takes a loop instead of the stack";
  EXPECT_NE(error_of(deep + "{{ ns.x }}"), "");
  EXPECT_NE(error_of(deep + "{{ {ns.x: 1} }}"), "");
  EXPECT_NE(error_of(deep + "{{ ns.x < ns.x }}{{ ns.x == (ns.x,) }}"), "");
  EXPECT_EQ(
      error_of("{% set ns = namespace(d={}) %}{% for a in range(99999) %}{% set ns.d = {'d': ns.d} %}{% endfor %}"),
      "");
}

TEST(TemplateLimits, cycles_end_with_the_rendering) {
  // The address sanitizer's leak check is the judge.
  EXPECT_EQ(
      error_of(
          "{% macro m() %}{% set x = [] %}{% set _ = x.append([x, {'k': x}]) %}{% endmacro %}{{ m() }}{{ m() }}"
          "{% set ns = namespace() %}{% set ns.me = ns %}{% for a in [1] %}{% set ns.loop = loop %}{% set b = ns %}{% "
          "endfor %}"
          "{% set ns.m = m %}{% set ns.f = [].append %}{% set ns.i = {'a': ns}.items() %}{% set ns.c = cycler(ns) %}"),
      "");
}

TEST(TemplateLimits, python_internals_are_out_of_reach) {
  const char* const sources[] = {
      "{{ ''.__class__.__mro__ }}",
      "{{ ''.__class__.__mro__[1].__subclasses__() }}",
      "{{ [].__class__.__base__.__subclasses__()[1] }}",
      "{{ {}['__class__'].__init__ }}",
      "{{ range.__globals__['os'] }}",
      "{{ raise_exception.__globals__.sys }}",
      "{{ namespace.__init__.__globals__ }}",
      "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
      "{{ self.__init__.__globals__ }}",
      "{{ self._TemplateReference__context.cycler.__init__ }}",
      "{{ ''|attr('__class__')|attr('__mro__')|first|attr('x') is y.z }}",
      "{{ '{0.__class__.__mro__}'.format('') }}",
      "{{ '{x.__class__}'.format(x=1) }}",
      "{{ ''['__class__']['__mro__'] }}",
      "{% set x = lipsum.__globals__.os %}",
      "{{ lipsum() }}",
      "{% import 'os' as os %}",
      "{% include '/etc/passwd' %}",
      "{% extends '/etc/passwd' %}",
      "{% from 'x' import y %}",
      "{{ ''.format_map({}) }}",
      "{{ (1).__class__(2) }}",
      "{{ joiner.__init__.__func__ }}",
      "{{ [].sort(key=range) }}",
  };
  for (const char* source : sources) {
    const std::string error = error_of(source);
    EXPECT_NE(error, "") << source;
    EXPECT_EQ(error.find('\n'), std::string::npos) << source;
  }
}

void expect_one_short_line(const std::string& message, const std::string& source) {
  EXPECT_NE(message, "") << source;
  EXPECT_EQ(message.find('\n'), std::string::npos) << source << "\n" << message;
  EXPECT_LT(message.size(), 1024u) << source;
}

TEST(TemplateLimits, every_prefix_of_a_template_compiles_or_says_why_not) {
  const std::string source =
      "{%- macro m(a, b=2) -%}{% endmacro %}{%- set ns = namespace(x=[1, {'a': -1.5e3}]) -%}{# c -#}{% raw %}{{{% "
      "endraw %}"
      "{%- for k, v in d.items() if v is not none recursive %}{{ loop.index ~ k|upper|replace('a', \"b\\n\\u00e9\") "
      "}}{% else %}x{% endfor -%}"
      "{% if a.b[1:2] not in (1, 2) and not c %}{% elif x %}{% else %}{% endif %}{% call(x) m(*a, **b) %}{% endcall "
      "%}{% with a = 1 %}{% endwith %}";
  const auto whole = ChatTemplate::compile(source);
  ASSERT_TRUE(whole) << whole.error().message;
  const Json context = *Json::parse(R"({"d":{"a":1},"a":{"b":[1,2]}})");
  size_t refused = 0;
  for (size_t n = 0; n <= source.size(); ++n) {
    std::string changed = source;
    if (n < changed.size()) changed[n] = "{}%|'\"(\\\n"[n % 9];
    for (const std::string& text : {source.substr(0, n), source.substr(n), changed}) {
      const auto compiled = ChatTemplate::compile(text);
      if (!compiled) {
        ++refused;
        expect_one_short_line(compiled.error().message, text);
        continue;
      }
      const auto out = compiled->render(context, std::tm{});
      if (!out) expect_one_short_line(out.error().message, text);
    }
  }
  EXPECT_GT(refused, source.size()) << "most of these are broken";
}

TEST(TemplateLimits, broken_utf8_is_refused_in_templates_and_repaired_in_variables) {
  EXPECT_THAT(error_of("a\xFFz"), testing::HasSubstr("UTF-8"));
  Json context;
  context.set("x", Json(std::string("a\xFFz")));
  const auto out = ChatTemplate::compile("{{ x|length }}{{ x[1] }}")->render(context, std::tm{});
  ASSERT_TRUE(out);
  EXPECT_EQ(join_segments(*out), "3\xEF\xBF\xBD");
}

TEST(TemplateLimits, one_template_renders_on_several_threads) {
  const auto compiled =
      ChatTemplate::compile("{% for m in messages %}{{ m.content|upper ~ 'x' ~ loop.index }}{% endfor %}");
  ASSERT_TRUE(compiled);
  const Json context = *Json::parse(R"({"messages":[{"content":"a"},{"content":"b"}]})");
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        const auto out = compiled->render(context, std::tm{});
        ASSERT_TRUE(out);
        EXPECT_EQ(join_segments(*out), "Ax1Bx2");
      }
    });
}

}  // namespace
}  // namespace quern
