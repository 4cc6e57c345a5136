// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "quern/base/utf8.h"
#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/format.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"
#include "quern/chat/jinja/string_operations.h"

namespace quern::jinja {
namespace {

bool is_given(const Value& v) { return v.given() && !v.is(Kind::none); }
const Text& subject(const Call& c) { return c.self.text(); }
bool markup(const Call& c) { return c.self.as<StringObject>().markup; }
Value result(const Call& c, Text text) { return c.rt.string(std::move(text), markup(c)); }
Value part(const Call& c, size_t from, size_t to) { return result(c, subject(c).slice(from, to)); }

Result<int64_t> limit_argument(const Call& c, size_t i) {
  if (!c[i].given()) return int64_t{-1};
  return integer_argument(c[i], "count");
}

// Search. `start` and `end` count characters, from the end where negative.

struct Window {
  Range bytes;
  int64_t first_char;
  bool valid;  ///< start is not past the end
};

Result<Window> window(Call& c, size_t start_index, size_t end_index) {
  const std::string_view text = subject(c).view();
  QUERN_TRY_STATUS(c.rt.spend_bytes(text.size()));
  const auto n = static_cast<int64_t>(c.self.as<StringObject>().chars());
  int64_t start = 0, end = n;
  if (is_given(c[start_index])) {
    QUERN_TRY(start, integer_argument(c[start_index], "start"));
  }
  if (is_given(c[end_index])) {
    QUERN_TRY(end, integer_argument(c[end_index], "end"));
  }
  const auto clamp = [&](int64_t i) { return std::max<int64_t>(i < 0 ? i + n : i, 0); };
  start = clamp(start);
  end = std::min(clamp(end), n);
  if (start > end) return Window{{0, 0}, start, false};
  return Window{
      {char_position(text, static_cast<size_t>(start)), char_position(text, static_cast<size_t>(end))}, start, true};
}

/// Byte position of the first or last place of `what`; nothing if it is not there.
std::optional<size_t> find_in(std::string_view text, std::string_view what, bool from_right) {
  if (from_right) {
    // string_view::rfind may take quadratic time; the last of all places, overlapping ones too, is what is wanted.
    if (what.size() > text.size()) return std::nullopt;
    if (what.size() <= 32) {
      const size_t place = text.rfind(what);
      return place == text.npos ? std::nullopt : std::optional<size_t>(place);
    }
    std::string reversed_text(text.rbegin(), text.rend()), reversed_what(what.rbegin(), what.rend());
    const void* hit = memmem(reversed_text.data(), reversed_text.size(), reversed_what.data(), reversed_what.size());
    if (!hit) return std::nullopt;
    return text.size() - what.size() - static_cast<size_t>(static_cast<const char*>(hit) - reversed_text.data());
  }
  if (what.empty()) return size_t{0};
  const void* hit = memmem(text.data(), text.size(), what.data(), what.size());
  if (!hit) return std::nullopt;
  return static_cast<size_t>(static_cast<const char*>(hit) - text.data());
}

Result<int64_t> position_of(Call& c, bool from_right) {
  QUERN_TRY(const std::string_view what, string_argument(c[0], "sub"));
  QUERN_TRY(const Window w, window(c, 1, 2));
  if (!w.valid) return int64_t{-1};
  const std::string_view text = subject(c).view().substr(w.bytes.from, w.bytes.to - w.bytes.from);
  const auto place = find_in(text, what, from_right);
  if (!place) return int64_t{-1};
  return w.first_char + static_cast<int64_t>(count_chars(text.substr(0, *place)));
}

Result<Value> find(Call& c) {
  QUERN_TRY(const int64_t place, position_of(c, false));
  return Value::integer(place);
}
Result<Value> rfind(Call& c) {
  QUERN_TRY(const int64_t place, position_of(c, true));
  return Value::integer(place);
}
Result<Value> index(Call& c) {
  QUERN_TRY(const int64_t place, position_of(c, false));
  if (place < 0) return template_error("substring not found");
  return Value::integer(place);
}
Result<Value> rindex(Call& c) {
  QUERN_TRY(const int64_t place, position_of(c, true));
  if (place < 0) return template_error("substring not found");
  return Value::integer(place);
}

Result<Value> count(Call& c) {
  QUERN_TRY(const std::string_view what, string_argument(c[0], "sub"));
  QUERN_TRY(const Window w, window(c, 1, 2));
  if (!w.valid) return Value::integer(0);
  const std::string_view text = subject(c).view().substr(w.bytes.from, w.bytes.to - w.bytes.from);
  if (what.empty()) return Value::integer(static_cast<int64_t>(count_chars(text)) + 1);
  return Value::integer(static_cast<int64_t>(find_all(text, what, -1).size()));
}

Result<Value> affix(Call& c, bool at_start) {
  QUERN_TRY(const Window w, window(c, 1, 2));
  const Values options = c[0].is(Kind::tuple) ? c[0].as<ListObject>().items : Values{c[0]};
  const std::string_view text =
      w.valid ? subject(c).view().substr(w.bytes.from, w.bytes.to - w.bytes.from) : std::string_view();
  for (const Value& option : options) {
    QUERN_TRY(const std::string_view what, string_argument(option, at_start ? "startswith" : "endswith"));
    if (w.valid && (at_start ? text.starts_with(what) : text.ends_with(what))) return Value::boolean(true);
  }
  return Value::boolean(false);
}
Result<Value> startswith(Call& c) { return affix(c, true); }
Result<Value> endswith(Call& c) { return affix(c, false); }

// Cutting.

Result<Value> strip_sides(Call& c, bool left, bool right) {
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  Range range = stripped(subject(c).view(), left, right);
  if (is_given(c[0])) {
    QUERN_TRY(const std::string_view chars, string_argument(c[0], "chars"));
    QUERN_TRY_STATUS(c.rt.spend_bytes(chars.size()));
    range = stripped(subject(c).view(), chars, left, right);
  }
  return part(c, range.from, range.to);
}
Result<Value> strip(Call& c) { return strip_sides(c, true, true); }
Result<Value> lstrip(Call& c) { return strip_sides(c, true, false); }
Result<Value> rstrip(Call& c) { return strip_sides(c, false, true); }

Result<Value> removeprefix(Call& c) {
  QUERN_TRY(const std::string_view what, string_argument(c[0], "prefix"));
  return part(c, subject(c).view().starts_with(what) ? what.size() : 0, subject(c).size());
}
Result<Value> removesuffix(Call& c) {
  QUERN_TRY(const std::string_view what, string_argument(c[0], "suffix"));
  const bool has = !what.empty() && subject(c).view().ends_with(what);
  return part(c, 0, subject(c).size() - (has ? what.size() : 0));
}

/// The words between white space; after `limit` cuts the rest is one piece.
std::vector<Range> split_space(std::string_view text, int64_t limit, bool from_right) {
  std::vector<Range> pieces;
  Range rest = stripped(text, !from_right, from_right);  // the other end stays when the limit is reached
  while (rest.from < rest.to && (limit < 0 || static_cast<int64_t>(pieces.size()) < limit)) {
    if (from_right) {
      size_t start = rest.to, before = rest.to;
      while (start > rest.from) {
        before = start - 1;
        while (before > rest.from && (static_cast<unsigned char>(text[before]) & 0xC0) == 0x80) --before;
        if (is_space(utf8_decode(text.substr(before)).code_point)) break;
        start = before;
      }
      pieces.push_back({start, rest.to});
      rest.to = rest.from + stripped(text.substr(rest.from, start - rest.from), false, true).to;
    } else {
      size_t end = rest.from;
      while (end < rest.to) {
        const Utf8Step step = utf8_decode(text.substr(end));
        if (is_space(step.code_point)) break;
        end += static_cast<size_t>(step.length);
      }
      pieces.push_back({rest.from, end});
      rest.from = end + stripped(text.substr(end, rest.to - end), true, false).from;
    }
  }
  if (rest.from < rest.to) pieces.push_back(rest);
  if (from_right) std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

std::vector<Range> split_at(std::string_view text, std::string_view separator, int64_t limit, bool from_right) {
  std::vector<Range> pieces;
  if (!from_right) {
    size_t from = 0;
    for (const size_t place : find_all(text, separator, limit)) {
      pieces.push_back({from, place});
      from = place + separator.size();
    }
    pieces.push_back({from, text.size()});
    return pieces;
  }
  size_t to = text.size();
  while (limit < 0 || static_cast<int64_t>(pieces.size()) < limit) {
    const size_t place = text.substr(0, to).rfind(separator);
    if (place == text.npos) break;
    pieces.push_back({place + separator.size(), to});
    to = place;
  }
  pieces.push_back({0, to});
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

Result<Value> split_sides(Call& c, bool from_right) {
  QUERN_TRY(const int64_t limit, limit_argument(c, 1));
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  std::vector<Range> pieces;
  if (is_given(c[0])) {
    QUERN_TRY(const std::string_view separator, string_argument(c[0], "sep"));
    if (separator.empty()) return template_error("empty separator");
    if (from_right) QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size() * std::min<size_t>(separator.size(), 64)));
    pieces = split_at(subject(c).view(), separator, limit, from_right);
  } else {
    pieces = split_space(subject(c).view(), limit, from_right);
  }
  QUERN_TRY_STATUS(c.rt.reserve(static_cast<int64_t>(pieces.size() * 160)));
  Values out;
  out.reserve(pieces.size());
  for (const Range& piece : pieces) out.push_back(part(c, piece.from, piece.to));
  return c.rt.list(std::move(out));
}
Result<Value> split(Call& c) { return split_sides(c, false); }
Result<Value> rsplit(Call& c) { return split_sides(c, true); }

Result<Value> splitlines(Call& c) {
  QUERN_TRY(const bool keep_ends, truthy(c[0]));
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  const std::vector<Range> lines = lines_of(subject(c).view(), keep_ends);
  QUERN_TRY_STATUS(c.rt.reserve(static_cast<int64_t>(lines.size() * 160)));
  Values out;
  for (const Range& line : lines) out.push_back(part(c, line.from, line.to));
  return c.rt.list(std::move(out));
}

Result<Value> partition_sides(Call& c, bool from_right) {
  QUERN_TRY(const std::string_view separator, string_argument(c[0], "sep"));
  if (separator.empty()) return template_error("empty separator");
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  const auto place = find_in(subject(c).view(), separator, from_right);
  const size_t size = subject(c).size();
  if (!place) {
    const Value empty = part(c, 0, 0);
    return from_right ? c.rt.tuple({empty, empty, c.self}) : c.rt.tuple({c.self, empty, empty});
  }
  const size_t after = *place + separator.size();
  return c.rt.tuple({part(c, 0, *place), part(c, *place, after), part(c, after, size)});
}
Result<Value> partition(Call& c) { return partition_sides(c, false); }
Result<Value> rpartition(Call& c) { return partition_sides(c, true); }

// Making other text.

template <Case to>
Result<Value> change_case(Call& c) {
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  return result(c, convert_case(subject(c), to));
}
Result<Value> title(Call& c) {
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  return result(c, titled(subject(c)));
}
Result<Value> capitalize(Call& c) {
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  return result(c, capitalized(subject(c)));
}

Result<Value> swapcase(Call& c) {
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  return result(c, case_swapped(subject(c)));
}

Result<Value> replace(Call& c) {
  QUERN_TRY(const std::string_view old_text, string_argument(c[0], "old"));
  QUERN_TRY_STATUS(string_argument(c[1], "new").has_value() ? Status() : Status(string_argument(c[1], "new").error()));
  QUERN_TRY(const int64_t limit, limit_argument(c, 2));
  QUERN_TRY(Text out, replaced(c.rt, subject(c), old_text, markup(c) ? escaped(c[1]) : c[1].text(), limit));
  return result(c, std::move(out));
}

Result<Value> join_method(Call& c) {
  QUERN_TRY(Values items, iterate(c.rt, c[0]));
  if (markup(c))
    for (Value& item : items)
      if (item.is(Kind::string)) item = c.rt.string(escaped(item), true);
  QUERN_TRY(Value joined, join(c.rt, subject(c), items, true));
  return markup(c) ? c.rt.string(joined.text(), true) : joined;
}

Result<Value> format(Call& c) {
  QUERN_TRY(Value out, brace_format(c.rt, subject(c), c.rest, c.named));
  if (markup(c)) return template_error("format() of markup is not supported");
  return out;
}

/// Missing characters up to the width in argument 0.
Result<int64_t> missing_chars(const Call& c) {
  QUERN_TRY(const int64_t width, integer_argument(c[0], "width"));
  return std::max<int64_t>(0, width - static_cast<int64_t>(c.self.as<StringObject>().chars()));
}
Result<Text> fill_argument(const Call& c) {
  if (!c[1].given()) return Text(" ");
  QUERN_TRY_STATUS(string_argument(c[1], "fillchar").has_value() ? Status()
                                                                 : Status(string_argument(c[1], "fillchar").error()));
  if (c[1].as<StringObject>().chars() != 1)
    return template_error("The fill character must be exactly one character long");
  return c[1].text();
}

Result<Value> pad(Call& c, int64_t left, int64_t right) {
  QUERN_TRY(const Text fill, fill_argument(c));
  QUERN_TRY(Text out, padded(c.rt, subject(c), left, right, fill));
  return result(c, std::move(out));
}
Result<Value> ljust(Call& c) {
  QUERN_TRY(const int64_t missing, missing_chars(c));
  return pad(c, 0, missing);
}
Result<Value> rjust(Call& c) {
  QUERN_TRY(const int64_t missing, missing_chars(c));
  return pad(c, missing, 0);
}
Result<Value> center(Call& c) {
  QUERN_TRY(const int64_t missing, missing_chars(c));
  const int64_t left = center_left(missing, c[0].as_integer());
  return pad(c, left, missing - left);
}

Result<Value> zfill(Call& c) {
  QUERN_TRY(const int64_t missing, missing_chars(c));
  const bool sign = subject(c).view().starts_with('+') || subject(c).view().starts_with('-');
  QUERN_TRY(Text zeros, padded(c.rt, Text(), missing, 0, Text("0")));
  Text out = subject(c).slice(0, sign ? 1 : 0);
  out.append(zeros);
  out.append(subject(c), sign ? 1 : 0, subject(c).size());
  return result(c, std::move(out));
}

Result<Value> expandtabs(Call& c) {
  int64_t size = 8;
  if (c[0].given()) {
    QUERN_TRY(size, integer_argument(c[0], "tabsize"));
  }
  const auto tabs = static_cast<int64_t>(std::count(subject(c).view().begin(), subject(c).view().end(), '\t'));
  int64_t added = 0;
  if (__builtin_mul_overflow(tabs, std::max<int64_t>(size, 0), &added)) added = -1;
  QUERN_TRY_STATUS(c.rt.reserve(added));
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  Text out;
  int64_t column = 0;
  for (size_t i = 0; i < subject(c).size();) {
    const Utf8Step step = utf8_decode(subject(c).view().substr(i));
    const auto next = i + static_cast<size_t>(step.length);
    if (step.code_point == '\t') {
      const int64_t blanks = size > 0 ? size - column % size : 0;
      out.append(std::string(static_cast<size_t>(blanks), ' '), subject(c).user_at(i));
      column += blanks;
    } else {
      out.append(subject(c), i, next);
      column = step.code_point == '\n' || step.code_point == '\r' ? 0 : column + 1;
    }
    i = next;
  }
  return result(c, std::move(out));
}

Result<Value> encode(Call& c) {
  if (c[0].given()) {
    QUERN_TRY(const std::string_view encoding, string_argument(c[0], "encoding"));
    if (encoding != "utf-8" && encoding != "utf8" && encoding != "UTF-8")
      return template_error("encode: only utf-8 is supported, found '{}'", encoding);
  }
  const auto bytes = static_cast<int64_t>(subject(c).size());
  QUERN_TRY_STATUS(c.rt.reserve(bytes));
  return Value(c.rt.heap.make<StringObject>(bytes, Kind::bytes, subject(c), false));
}

// Questions about all characters; false for the empty string.

template <bool (*passes)(char32_t), bool of_empty = false>
Result<Value> all_chars(Call& c) {
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  std::string_view rest = subject(c).view();
  if (rest.empty()) return Value::boolean(of_empty);
  while (!rest.empty()) {
    const Utf8Step step = utf8_decode(rest);
    if (!passes(step.code_point)) return Value::boolean(false);
    rest.remove_prefix(static_cast<size_t>(step.length));
  }
  return Value::boolean(true);
}

bool is_alnum(char32_t c) { return is_letter(c) || is_decimal(c) || is_digit(c) || is_numeric(c); }
bool is_ascii(char32_t c) { return c < 0x80; }

template <bool (*wanted)(char32_t)>
Result<Value> one_case(Call& c) {
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  bool any = false;
  for (std::string_view rest = subject(c).view(); !rest.empty();) {
    const Utf8Step step = utf8_decode(rest);
    rest.remove_prefix(static_cast<size_t>(step.length));
    if (!is_cased(step.code_point)) continue;
    if (!wanted(step.code_point)) return Value::boolean(false);
    any = true;
  }
  return Value::boolean(any);
}

Result<Value> istitle(Call& c) {
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  bool any = false, in_word = false;
  for (std::string_view rest = subject(c).view(); !rest.empty();) {
    const Utf8Step step = utf8_decode(rest);
    rest.remove_prefix(static_cast<size_t>(step.length));
    const bool starts = is_upper(step.code_point) || is_title(step.code_point);
    if (starts && in_word) return Value::boolean(false);
    if (!starts && is_lower(step.code_point) && !in_word) return Value::boolean(false);
    in_word = is_cased(step.code_point);
    any = any || in_word;
  }
  return Value::boolean(any);
}

Result<Value> isidentifier(Call& c) {
  QUERN_TRY_STATUS(c.rt.spend_bytes(subject(c).size()));
  const std::string_view text = subject(c).view();
  if (text.empty() || !is_name_start(utf8_decode(text).code_point)) return Value::boolean(false);
  return all_chars<is_name_part>(c);
}

constexpr Builtin kTable[] = {
    {"capitalize", "", capitalize},
    {"casefold", "", change_case<Case::fold>},
    {"center", "width! fillchar", center},
    {"count", "sub! start end", count},
    {"encode", "encoding errors", encode},
    {"endswith", "suffix! start end", endswith},
    {"expandtabs", "tabsize", expandtabs},
    {"find", "sub! start end", find},
    {"format", "* **", format},
    {"format_map", "mapping", nullptr},
    {"index", "sub! start end", index},
    {"isalnum", "", all_chars<is_alnum>},
    {"isalpha", "", all_chars<is_letter>},
    {"isascii", "", all_chars<is_ascii, true>},
    {"isdecimal", "", all_chars<is_decimal>},
    {"isdigit", "", all_chars<is_digit>},
    {"isidentifier", "", isidentifier},
    {"islower", "", one_case<is_lower>},
    {"isnumeric", "", all_chars<is_numeric>},
    {"isprintable", "", all_chars<is_printable, true>},
    {"isspace", "", all_chars<is_space>},
    {"istitle", "", istitle},
    {"isupper", "", one_case<is_upper>},
    {"join", "iterable!", join_method},
    {"ljust", "width! fillchar", ljust},
    {"lower", "", change_case<Case::lower>},
    {"lstrip", "chars", lstrip},
    {"maketrans", "* **", nullptr},
    {"partition", "sep!", partition},
    {"removeprefix", "prefix!", removeprefix},
    {"removesuffix", "suffix!", removesuffix},
    {"replace", "old! new! count", replace},
    {"rfind", "sub! start end", rfind},
    {"rindex", "sub! start end", rindex},
    {"rjust", "width! fillchar", rjust},
    {"rpartition", "sep!", rpartition},
    {"rsplit", "sep maxsplit", rsplit},
    {"rstrip", "chars", rstrip},
    {"split", "sep maxsplit", split},
    {"splitlines", "keepends", splitlines},
    {"startswith", "prefix! start end", startswith},
    {"strip", "chars", strip},
    {"swapcase", "", swapcase},
    {"title", "", title},
    {"translate", "table", nullptr},
    {"upper", "", change_case<Case::upper>},
    {"zfill", "width!", zfill},
};

}  // namespace

std::span<const Builtin> string_methods() { return kTable; }

}  // namespace quern::jinja
