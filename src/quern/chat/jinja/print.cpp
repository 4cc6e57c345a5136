// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/print.h"

#include <algorithm>
#include <cmath>

#include "quern/base/json.h"
#include "quern/base/utf8.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/unicode.h"

namespace quern::jinja {
namespace {

constexpr int kMaxNesting = 200;

/// Values that share parts print to far more text than they hold: the size is checked as it grows.
Status check_growth(Runtime& rt, const Text& out, int depth) {
  if (depth > kMaxNesting) return template_error("values nested deeper than {}", kMaxNesting);
  const auto size = static_cast<int64_t>(out.memory_bytes());
  if (size > rt.limits.max_memory_bytes - rt.heap.used_bytes()) return rt.reserve(size);
  return rt.spend(1);
}

void append_escape(std::string& out, char32_t c) {
  const auto code = static_cast<uint32_t>(c);
  if (c < 0x100)
    out += fmt::format("\\x{:02x}", code);
  else if (c < 0x10000)
    out += fmt::format("\\u{:04x}", code);
  else
    out += fmt::format("\\U{:08x}", code);
}

/// Python prefers single quotes, and takes double ones where that saves escapes.
char quote_for(std::string_view text) {
  return text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
}

void append_repr_char(std::string& out, char32_t c, std::string_view bytes, char quote) {
  switch (c) {
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    case '\\':
      out += "\\\\";
      return;
    default:
      break;
  }
  if (c == static_cast<char32_t>(quote)) out += '\\';
  if (is_printable(c))
    out += bytes;
  else
    append_escape(out, c);
}

void append_string_repr(const Text& text, Text& out) {
  const char quote = quote_for(text.view());
  const bool user = text.has_user();
  out.append({&quote, 1}, user);
  text.for_each_run([&](std::string_view run, bool user_run) {
    std::string piece;
    while (!run.empty()) {
      const Utf8Step step = utf8_decode(run);
      append_repr_char(piece, step.code_point, run.substr(0, step.length), quote);
      run.remove_prefix(step.length);
    }
    out.append(piece, user_run);
  });
  out.append({&quote, 1}, user);
}

void append_bytes_repr(const Text& text, Text& out) {
  const char quote = quote_for(text.view());
  std::string piece = std::string("b") + quote;
  for (const char c : text.view()) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte >= 0x80 || byte < 0x20 || byte == 0x7F || c == '\\' || c == quote) {
      if (c == '\n' || c == '\r' || c == '\t' || c == '\\' || c == quote)
        append_repr_char(piece, byte, {&c, 1}, quote);
      else
        append_escape(piece, byte);
    } else {
      piece += c;
    }
  }
  out.append(piece + quote, text.has_user());
}

Status append_repr_at(Runtime& rt, const Value& v, Text& out, int depth);

Status append_items(Runtime& rt, const Values& items, std::string_view open, std::string_view close, Text& out,
                    int depth) {
  out.append(open, false);
  bool first = true;
  for (const Value& item : items) {
    if (!first) out.append(", ", false);
    first = false;
    QUERN_TRY_STATUS(append_repr_at(rt, item, out, depth + 1));
  }
  out.append(close, false);
  return {};
}

Status append_dict(Runtime& rt, const DictObject& dict, Text& out, int depth) {
  out.append("{", false);
  bool first = true;
  for (const auto& [key, value] : dict.entries) {
    if (!first) out.append(", ", false);
    first = false;
    QUERN_TRY_STATUS(append_repr_at(rt, key, out, depth + 1));
    out.append(": ", false);
    QUERN_TRY_STATUS(append_repr_at(rt, value, out, depth + 1));
  }
  out.append("}", false);
  return {};
}

std::string range_repr(const RangeObject& r) {
  return r.step == 1 ? fmt::format("range({}, {})", r.start, r.stop)
                     : fmt::format("range({}, {}, {})", r.start, r.stop, r.step);
}

Status append_repr_at(Runtime& rt, const Value& v, Text& out, int depth) {
  QUERN_TRY_STATUS(check_growth(rt, out, depth));
  switch (v.kind()) {
    case Kind::none:
      out.append("None", false);
      return {};
    case Kind::boolean:
      out.append(v.as_bool() ? "True" : "False", false);
      return {};
    case Kind::integer:
      out.append(fmt::to_string(v.as_integer()), false);
      return {};
    case Kind::floating:
      out.append(float_repr(v.as_floating()), false);
      return {};
    case Kind::big_integer:
      out.append(v.as<BigIntegerObject>().digits, false);
      return {};
    case Kind::undefined:
      out.append("Undefined", false);
      return {};
    case Kind::string:
      QUERN_TRY_STATUS(rt.spend_bytes(v.view().size()));
      if (v.as<StringObject>().markup) out.append("Markup(", false);
      append_string_repr(v.text(), out);
      if (v.as<StringObject>().markup) out.append(")", false);
      return {};
    case Kind::bytes:
      append_bytes_repr(v.text(), out);
      return {};
    case Kind::list:
      return append_items(rt, v.as<ListObject>().items, "[", "]", out, depth);
    case Kind::tuple: {
      const Values& items = v.as<ListObject>().items;
      return append_items(rt, items, "(", items.size() == 1 ? ",)" : ")", out, depth);
    }
    case Kind::dict:
      return append_dict(rt, v.as<DictObject>(), out, depth);
    case Kind::range:
      out.append(range_repr(v.as<RangeObject>()), false);
      return {};
    case Kind::view: {
      QUERN_TRY(const Values items, iterate(rt, v));
      return append_items(rt, items, fmt::format("{}([", type_name(v)), "])", out, depth);
    }
    case Kind::loop: {
      QUERN_TRY(const int64_t n, length(v));
      out.append(fmt::format("<LoopContext {}/{}>", v.as<LoopObject>().index0 + 1, n), false);
      return {};
    }
    case Kind::self:
      out.append("<TemplateReference None>", false);
      return {};
    default:
      return template_error("a {} has no text to print", type_name(v));
  }
}

// JSON.

/// Python's json escapes what JSON asks for; with `ascii`, everything else beyond ASCII too.
void append_json_string(const Text& text, bool ascii, Text& out) {
  const bool user = text.has_user();
  out.append("\"", user);
  text.for_each_run([&](std::string_view run, bool user_run) {
    const std::string quoted = json_quote(run, ascii);
    out.append(std::string_view(quoted).substr(1, quoted.size() - 2), user_run);
  });
  out.append("\"", user);
}

std::string json_number(double d) {
  if (std::isnan(d)) return "NaN";
  if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
  return float_repr(d);
}

/// Keys that are no strings become ones, as json.dumps does it.
Status append_json_key(const Value& key, bool ascii, Text& out) {
  switch (key.kind()) {
    case Kind::string:
      append_json_string(key.text(), ascii, out);
      return {};
    case Kind::none:
      out.append("\"null\"", false);
      return {};
    case Kind::boolean:
      out.append(key.as_bool() ? "\"true\"" : "\"false\"", false);
      return {};
    case Kind::integer:
      out.append(fmt::format("\"{}\"", key.as_integer()), false);
      return {};
    case Kind::big_integer:
      out.append(fmt::format("\"{}\"", key.as<BigIntegerObject>().digits), false);
      return {};
    case Kind::floating:
      out.append(fmt::format("\"{}\"", json_number(key.as_floating())), false);
      return {};
    default:
      return template_error("keys must be str, int, float, bool or None, not {}", type_name(key));
  }
}

class JsonWriter {
 public:
  JsonWriter(Runtime& rt, const JsonStyle& style, Text& out) : rt_(rt), style_(style), out_(out) {}

  Status value(const Value& v, int depth) {
    QUERN_TRY_STATUS(check_growth(rt_, out_, depth));
    switch (v.kind()) {
      case Kind::none:
        out_.append("null", false);
        return {};
      case Kind::boolean:
        out_.append(v.as_bool() ? "true" : "false", false);
        return {};
      case Kind::integer:
        out_.append(fmt::to_string(v.as_integer()), false);
        return {};
      case Kind::big_integer:
        out_.append(v.as<BigIntegerObject>().digits, false);
        return {};
      case Kind::floating:
        out_.append(json_number(v.as_floating()), false);
        return {};
      case Kind::string:
        QUERN_TRY_STATUS(rt_.spend_bytes(v.view().size()));
        append_json_string(v.text(), style_.ascii, out_);
        return {};
      case Kind::list:
      case Kind::tuple:
        return array(v.as<ListObject>().items, depth);
      case Kind::dict:
        return object(v.as<DictObject>(), depth);
      default:
        return template_error("Object of type {} is not JSON serializable", type_name(v));
    }
  }

 private:
  void line(int depth) {
    if (style_.one_line) return;
    std::string text = "\n";
    for (int i = 0; i < depth; ++i) text += style_.indent;
    out_.append(text, false);
  }

  Status array(const Values& items, int depth) {
    if (items.empty()) return out_.append("[]", false), Status();
    out_.append("[", false);
    bool first = true;
    for (const Value& item : items) {
      if (!first) out_.append(style_.item_separator, false);
      first = false;
      line(depth + 1);
      QUERN_TRY_STATUS(value(item, depth + 1));
    }
    line(depth);
    out_.append("]", false);
    return {};
  }

  Status object(const DictObject& dict, int depth) {
    if (dict.entries.empty()) return out_.append("{}", false), Status();
    Values keys, places;
    for (size_t i = 0; i < dict.entries.size(); ++i) {
      keys.push_back(dict.entries[i].first);
      places.push_back(Value::integer(static_cast<int64_t>(i)));
    }
    if (style_.sort_keys) QUERN_TRY_STATUS(sort_by(rt_, places, keys, false));
    out_.append("{", false);
    bool first = true;
    for (const Value& place : places) {
      const auto& [key, item] = dict.entries[static_cast<size_t>(place.as_integer())];
      if (!first) out_.append(style_.item_separator, false);
      first = false;
      line(depth + 1);
      QUERN_TRY_STATUS(append_json_key(key, style_.ascii, out_));
      out_.append(style_.key_separator, false);
      QUERN_TRY_STATUS(value(item, depth + 1));
    }
    line(depth);
    out_.append("}", false);
    return {};
  }

  Runtime& rt_;
  const JsonStyle& style_;
  Text& out_;
};

}  // namespace

Status append_repr(Runtime& rt, const Value& value, Text& out) { return append_repr_at(rt, value, out, 0); }

Status append_str(Runtime& rt, const Value& value, Text& out) {
  if (value.is(Kind::string)) {
    out.append(value.text());
    return rt.spend(static_cast<int64_t>(value.view().size() / 1024));
  }
  if (value.is(Kind::undefined)) return {};
  return append_repr(rt, value, out);
}

Result<Value> to_string(Runtime& rt, const Value& value) {
  if (value.is(Kind::string)) return value;
  Text out;
  QUERN_TRY_STATUS(append_str(rt, value, out));
  return rt.string(std::move(out));
}

Status append_json(Runtime& rt, const Value& value, const JsonStyle& style, Text& out) {
  return JsonWriter(rt, style, out).value(value, 0);
}

}  // namespace quern::jinja
