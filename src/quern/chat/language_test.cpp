// SPDX-License-Identifier: Apache-2.0
// Known answers of Jinja2 3.1.6 beyond the golden files, most of them once wrong here.
#include <gtest/gtest.h>

#include "quern/chat/chat_template.h"

namespace quern {
namespace {

struct Case {
  const char* source;
  const char* expected;
};

std::string rendered(const char* source) {
  const auto compiled = ChatTemplate::compile(source);
  if (!compiled) return "error: " + compiled.error().message;
  const Json context = *Json::parse(
      R"({"d":{"b":1,"a":2},"g":"G","w":"  a b c ","v":0,"x":{"a":[],"b":{},"c":[1,1.0,1e-5,1e20,true,null]}})");
  const auto out = compiled->render(context, std::tm{});
  return out ? join_segments(*out) : "error: " + out.error().message;
}

TEST(TemplateLanguage, known_answers) {
  const Case cases[] = {
      {"{% set y=0 %}{% for x in [1,2] %}{{ y }}{% set y=x %}{{ y }}{% endfor %}{{ y }}", "01020"},
      {"{% macro m(a,b=2) %}{{ a }}{{ b }}{{ g }}{% endmacro %}{{ m(1) }}{{ m(a=3,b=4) }}", "12G34G"},
      {"{{ 7/2 }} {{ 7//2 }} {{ 7%4 }} {{ 6/2 }} {{ -7//2 }} {{ -7%4 }} {{ 7%-4 }} {{ -7.5//2 }}",
       "3.5 3 3 3.0 -4 1 -1 -4.0"},
      {"{{ d|items|list }} {{ d|dictsort }}", "[('b', 1), ('a', 2)] [('a', 2), ('b', 1)]"},
      {"  {% if true %}\n  a\n  {% endif %}\nb\n", "  a\nb"},
      {"{{ x|tojson }}", R"({"a": [], "b": {}, "c": [1, 1.0, 1e-05, 1e+20, true, null]})"},
      {"{{ w.split(none, 1) }}{{ w.rsplit(none, 1) }}{{ w.split() }}", "['a', 'b c ']['  a b', 'c']['a', 'b', 'c']"},
      {"{{ 'ΑΣ'.swapcase() }} {{ 'ΑΣ Σ'|lower }} {{ \"ΑΣ'Β\"|lower }}", "ας ας σ ασ'β"},
      {"{{ {'a': 4}|truncate(5) }}", "{'a': 4}"},
      {"{{ 'a' % range(2) }}{{ 'a' % [] }}", "aa"},
      {"{{ ('<'|e)|map('upper')|list }}", "['&', 'L', 'T', ';']"},
      {"{% for i in [1] %}{{ loop }}{% endfor %}", "<LoopContext 1/1>"},
      {"{% for x in [1] %}{% break %}{% else %}E{% endfor %}", "E"},
      {"{% for i in [1,2] %}{% if i == 2 %}{% set v = i %}{% endif %}{{ v }}{% endfor %}", "02"},
      {"{% for i in [1,2] %}{% set v = i %}{% endfor %}{{ v }}", "0"},
      {"{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "11"},
      {"{% macro m() %}{{ z is defined }}{% endmacro %}{{ m() }}{% set z = 1 %}{{ m() }}", "FalseTrue"},
      {"{% macro m() %}[{{ caller(5) }}]{% endmacro %}{% call(q) m() %}{{ q + 1 }}{% endcall %}", "[6]"},
      {"{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{{ loop.depth }}{% "
       "endif %}{% endfor %}",
       "11(22(33))"},
      {"{% set ns = namespace(seen=[]) %}{% for x in [1,1,2] if x not in ns.seen %}{% set ns.seen = ns.seen + [x] %}{{ "
       "x }}{% endfor %}",
       "12"},
      {"{% set s | upper %}a{{ 'b' }}{% endset %}{{ s }}", "AB"},
      {"{% generation %}{% set q = 1 %}g{% endgeneration %}{{ q is defined }}", "gFalse"},
      {"{{ 1 < 2 < 3 }}{{ 3 > 2 > 2 }}{{ 1 == 1.0 == true }}", "TrueFalseTrue"},
      {"{{ {1: 'a', true: 'b', 1.0: 'c'} }}{{ {(1, 2): 3}[(1, 2)] }}", "{1: 'c'}3"},
      {"{{ [3, 1]|sort }}{{ ['b', 'A']|sort }}{{ [1, 'a']|map('string')|join }}", "[1, 3]['A', 'b']1a"},
      {"{{ ''.__class__ }}|{{ d._x }}", "|"},
      {"{{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1e-5 }} {{ 2 ** 0.5 }} {{ 10 ** -2 }}",
       "0.30000000000000004 1e+16 1e-05 1.4142135623730951 0.01"},
      {"{{ 2.675|round(2) }} {{ 0.5|round }} {{ 15|round(-1) }} {{ 25|round(-1) }} {{ -0.4|round }}",
       "2.67 0.0 20 20 -0.0"},
      {"{{ '%05d|%-4s|%+.2f|%x|%%|%r' % (42, 'ab', 1.005, 255, 'q') }}", "00042|ab  |+1.00|ff|%|'q'"},
      {"{{ '{:,}|{:>4}|{:^5}|{:04d}|{0!r}|{a[0]}'.format(1234567, 'a', 'b', 7, a=[9]) }}", "error"},
      {"{{ '{0:,}|{1:>4}|{1:^5}|{2:04d}|{1!r}|{a[0]}'.format(1234567, 'a', 7, a=[9]) }}",
       "1,234,567|   a|  a  |0007|'a'|9"},
  };
  for (const Case& c : cases) {
    const std::string got = rendered(c.source);
    if (std::string_view(c.expected) == "error")
      EXPECT_TRUE(got.starts_with("error: ")) << c.source << ": " << got;
    else
      EXPECT_EQ(got, c.expected) << c.source;
  }
}

TEST(TemplateLanguage, variables_are_the_names_read_and_not_set) {
  const auto compiled = ChatTemplate::compile(
      "{% for m in messages %}{{ m.role }}{{ loop.index }}{% endfor %}{% set a = tools %}{{ a }}{{ range(2) }}"
      "{% macro f(p) %}{{ p }}{{ inner }}{% endmacro %}{% if x %}{% set enable_thinking = true %}{% endif %}{{ "
      "enable_thinking }}");
  ASSERT_TRUE(compiled);
  EXPECT_EQ(compiled->variables(), (std::vector<std::string>{"enable_thinking", "inner", "messages", "tools", "x"}));
}

TEST(TemplateLanguage, unknown_filters_fail_at_once_unless_a_branch_avoids_them) {
  EXPECT_FALSE(ChatTemplate::compile("{{ x|nosuch }}"));
  EXPECT_FALSE(ChatTemplate::compile("{% if 0 %}{% for a in b %}{{ x|nosuch }}{% endfor %}{% endif %}"));
  EXPECT_EQ(rendered("{% if 0 %}{{ v|nosuch }}{% endif %}ok"), "ok");
  EXPECT_NE(rendered("{% if 1 %}{{ v|nosuch }}{% endif %}").find("No filter named 'nosuch'"), std::string::npos);
}

TEST(TemplateLanguage, errors_say_the_line) {
  EXPECT_EQ(rendered("a\n{{ b.c }}"), "error: chat template: line 2: 'b' is undefined");
  EXPECT_EQ(rendered("a\n\n{% if %}"),
            "error: chat template: line 3: expected an expression, found end of statement block");
}

}  // namespace
}  // namespace quern
