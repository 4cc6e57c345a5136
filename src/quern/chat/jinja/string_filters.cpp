// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "quern/base/utf8.h"
#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/format.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"
#include "quern/chat/jinja/string_operations.h"

namespace quern::jinja {
namespace {

/// The input as text, whatever it was; `markup`: what safe and escape made of it.
struct Input {
  Value value;
  const Text& text() const { return value.text(); }
  bool markup() const { return value.as<StringObject>().markup; }
};

Result<Input> input(Call& c) {
  QUERN_TRY(Value value, to_string(c.rt, c.self));
  QUERN_TRY_STATUS(c.rt.spend_bytes(value.view().size()));
  return Input{std::move(value)};
}

Result<Value> upper(Call& c) {
  QUERN_TRY(const Input in, input(c));
  return c.rt.string(convert_case(in.text(), Case::upper), in.markup());
}

Result<Value> lower(Call& c) {
  QUERN_TRY(const Input in, input(c));
  return c.rt.string(convert_case(in.text(), Case::lower), in.markup());
}

Result<Value> capitalize(Call& c) {
  QUERN_TRY(const Input in, input(c));
  return c.rt.string(capitalized(in.text()), in.markup());
}

/// Not str.title: words begin behind white space and opening brackets only, so `it's` stays one.
Result<Value> title(Call& c) {
  QUERN_TRY(const Input in, input(c));
  const Text& text = in.text();
  const auto splits = [](char32_t ch) {
    return is_space(ch) || ch == '-' || ch == '(' || ch == '{' || ch == '[' || ch == '<';
  };
  Text out;
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    const size_t first = static_cast<size_t>(utf8_decode(text.view().substr(i)).length);
    const bool separator = splits(utf8_decode(text.view().substr(i)).code_point);
    while (i < text.size()) {
      const Utf8Step step = utf8_decode(text.view().substr(i));
      if (splits(step.code_point) != separator) break;
      i += static_cast<size_t>(step.length);
    }
    out.append(convert_case(text.slice(start, start + first), Case::upper));
    out.append(convert_case(text.slice(start + first, i), Case::lower));
  }
  return c.rt.string(std::move(out));
}

Result<Value> trim(Call& c) {
  QUERN_TRY(const Input in, input(c));
  Range range = stripped(in.text().view(), true, true);
  if (c[0].given() && !c[0].is(Kind::none)) {
    QUERN_TRY(const std::string_view chars, string_argument(c[0], "chars"));
    QUERN_TRY_STATUS(c.rt.spend_bytes(chars.size()));
    range = stripped(in.text().view(), chars, true, true);
  }
  return c.rt.string(in.text().slice(range.from, range.to), in.markup());
}

Result<Value> replace(Call& c) {
  QUERN_TRY(const Input in, input(c));
  QUERN_TRY(const Value old_text, to_string(c.rt, c[0]));
  QUERN_TRY(const Value new_text, to_string(c.rt, c[1]));
  int64_t limit = -1;
  if (c[2].given() && !c[2].is(Kind::none)) {
    QUERN_TRY(limit, integer_argument(c[2], "count"));
  }
  QUERN_TRY(Text out, replaced(c.rt, in.text(), old_text.view(), new_text.text(), limit));
  return c.rt.string(std::move(out));
}

Result<Value> string(Call& c) { return to_string(c.rt, c.self); }

Result<Value> safe(Call& c) {
  QUERN_TRY(const Input in, input(c));
  return c.rt.string(in.text(), true);
}

Result<Value> escape(Call& c) {
  QUERN_TRY(const Input in, input(c));
  return c.rt.string(escaped(in.value), true);
}

Result<Value> force_escape(Call& c) {
  QUERN_TRY(const Input in, input(c));
  return c.rt.string(escaped(c.rt.string(in.text())), true);
}

Result<Value> indent(Call& c) {
  if (!c.self.is(Kind::string)) {
    QUERN_TRY_STATUS(check_defined(c.self));
    return template_error("indent: expected str, found {}", type_name(c.self));
  }
  QUERN_TRY(const Input in, input(c));
  Text indention(std::string(4, ' '));
  if (c[0].is(Kind::string))
    indention = c[0].text();
  else if (c[0].given()) {
    QUERN_TRY(const int64_t width, integer_argument(c[0], "width"));
    QUERN_TRY_STATUS(c.rt.reserve(std::max<int64_t>(width, 0)));
    indention = Text(std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' '));
  }
  QUERN_TRY(const bool first, truthy(c[1]));
  QUERN_TRY(const bool blank, truthy(c[2]));
  Text text = in.text();
  text.append("\n", false);
  const std::vector<Range> lines = lines_of(text.view(), false);
  QUERN_TRY_STATUS(c.rt.reserve(static_cast<int64_t>(lines.size() * (indention.memory_bytes() + 16))));
  Text out;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n", false);
    if (i == 0 ? first : blank || lines[i].to > lines[i].from) out.append(indention);
    out.append(text, lines[i].from, lines[i].to);
  }
  return c.rt.string(std::move(out), in.markup());
}

Result<Value> center(Call& c) {
  QUERN_TRY(const Input in, input(c));
  int64_t width = 80;
  if (c[0].given()) {
    QUERN_TRY(width, integer_argument(c[0], "width"));
  }
  const int64_t missing = std::max<int64_t>(0, width - static_cast<int64_t>(in.value.as<StringObject>().chars()));
  const int64_t left = center_left(missing, width);
  QUERN_TRY(Text out, padded(c.rt, in.text(), left, missing - left, Text(" ")));
  return c.rt.string(std::move(out), in.markup());
}

Result<Value> truncate(Call& c) {
  int64_t limit = 255, leeway = 5;
  if (c[0].given()) {
    QUERN_TRY(limit, integer_argument(c[0], "length"));
  }
  QUERN_TRY(const bool kill_words, truthy(c[1]));
  const Value end = c[2].given() ? c[2] : c.rt.string("...");
  QUERN_TRY_STATUS(string_argument(end, "end").has_value() ? Status() : Status(string_argument(end, "end").error()));
  if (c[3].given() && !c[3].is(Kind::none)) {
    QUERN_TRY(leeway, integer_argument(c[3], "leeway"));
  }
  const auto end_chars = static_cast<int64_t>(end.as<StringObject>().chars());
  if (limit < end_chars || leeway < 0)
    return template_error("truncate: expected length >= {} and leeway >= 0", end_chars);
  // Whatever has a length passes while it is short enough.
  QUERN_TRY(const int64_t chars, length(c.self));
  if (chars <= limit || chars - limit <= leeway) return c.self;
  if (!c.self.is(Kind::string)) return template_error("truncate: expected str, found {}", type_name(c.self));
  QUERN_TRY(const Input in, input(c));
  size_t cut = char_position(in.text().view(), static_cast<size_t>(limit - end_chars));
  if (!kill_words)
    if (const size_t space = in.text().view().substr(0, cut).rfind(' '); space != std::string_view::npos) cut = space;
  Text out = in.text().slice(0, cut);
  out.append(end.text());
  return c.rt.string(std::move(out));
}

Result<Value> format(Call& c) {
  QUERN_TRY(const Input in, input(c));
  if (!c.rest.empty() && !c.named.empty())
    return template_error("format: can't handle positional and keyword arguments at the same time");
  if (c.named.empty()) return percent_format(c.rt, c.rt.string(in.text()), c.rt.tuple(std::move(c.rest)));
  Value names = c.rt.dict();
  for (auto& [name, value] : c.named)
    QUERN_TRY_STATUS(set_key(c.rt, names.as<DictObject>(), c.rt.string(name), std::move(value)));
  return percent_format(c.rt, c.rt.string(in.text()), names);
}

Result<Value> word_count(Call& c) {
  QUERN_TRY(const Input in, input(c));
  int64_t words = 0;
  bool inside = false;
  for (std::string_view rest = in.text().view(); !rest.empty();) {
    const Utf8Step step = utf8_decode(rest);
    const bool word = is_word(step.code_point);
    if (word && !inside) ++words;
    inside = word;
    rest.remove_prefix(static_cast<size_t>(step.length));
  }
  return Value::integer(words);
}

constexpr Builtin kTable[] = {
    {"capitalize", "", capitalize},
    {"center", "width", center},
    {"e", "", escape},
    {"escape", "", escape},
    {"filesizeformat", "binary", nullptr},
    {"forceescape", "", force_escape},
    {"format", "* **", format},
    {"indent", "width first blank", indent},
    {"lower", "", lower},
    {"pprint", "", nullptr},
    {"replace", "old! new! count", replace},
    {"safe", "", safe},
    {"string", "", string},
    {"striptags", "", nullptr},
    {"title", "", title},
    {"trim", "chars", trim},
    {"truncate", "length killwords end leeway", truncate},
    {"upper", "", upper},
    {"urlencode", "", nullptr},
    {"urlize", "* **", nullptr},
    {"wordcount", "", word_count},
    {"wordwrap", "* **", nullptr},
    {"xmlattr", "autospace", nullptr},
};

}  // namespace

std::span<const Builtin> string_filters() { return kTable; }

}  // namespace quern::jinja
