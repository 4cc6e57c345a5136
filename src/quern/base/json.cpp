// SPDX-License-Identifier: Apache-2.0
#include "quern/base/json.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <new>
#include <numeric>
#include <vector>

#include "quern/base/utf8.h"

namespace quern {
namespace {

namespace sj = simdjson;

Error json_error(sj::error_code code) {
  if (code == sj::MEMALLOC) throw std::bad_alloc();  // as all else here that finds no memory
  return {ErrorCode::corrupt_data, fmt::format("JSON: {}", sj::error_message(code))};
}

#define QUERN_JSON_TRY(expression)                                               \
  do {                                                                           \
    if (const sj::error_code code = (expression); code) return json_error(code); \
  } while (false)

Result<Json> number_from(std::string_view token) {
  while (!token.empty() &&
         (token.back() == ' ' || token.back() == '\n' || token.back() == '\t' || token.back() == '\r'))
    token.remove_suffix(1);
  const char* end = token.data() + token.size();
  const bool integral = token.find_first_of(".eE") == token.npos;
  if (integral) {
    int64_t i = 0;
    const auto [p, status] = std::from_chars(token.data(), end, i);
    if (status == std::errc() && p == end && token != "-0") return Json(i);
    if (status == std::errc::result_out_of_range) return Json(Json::BigInteger{std::string(token)});
  }
  double d = 0;
  const auto [p, status] = std::from_chars(token.data(), end, d);
  if (p != end || token.empty())
    return make_error(ErrorCode::corrupt_data, "JSON: expected a number, found '{}'", token);
  if (status == std::errc::result_out_of_range) {  // as Python reads it: to zero or to infinity
    d = std::strtod(std::string(token).c_str(), nullptr);
  }
  if (integral) return Json(int64_t{0});  // "-0"
  return Json(d);
}

struct Converter {
  const sj::ondemand::parser& parser;
  /// For one string at a time, whatever its length. The parser has such memory too, but does not look whether it got
  /// it.
  std::vector<uint8_t> space;
  bool unique_keys;
  size_t most_keys;

  Result<Json> object(sj::ondemand::object in, int depth) {
    Json::Object out;
    for (auto field : in) {
      if (out.size() == most_keys)
        return make_error(ErrorCode::corrupt_data, "JSON: expected at most {} keys in an object, found more",
                          most_keys);
      sj::ondemand::raw_json_string key;
      QUERN_JSON_TRY(field.key().get(key));
      QUERN_TRY(std::string name, text(key));
      sj::ondemand::value member;
      QUERN_JSON_TRY(field.value().get(member));
      QUERN_TRY(Json converted, value(member, depth + 1));
      out.emplace_back(std::move(name), std::move(converted));
    }
    QUERN_TRY_STATUS(merge_repeated(out));
    return Json(std::move(out));
  }

  /// A key that stands several times keeps its first place and its last value. By sorting: comparing each key with each
  /// would let a document of a megabyte take hours.
  Status merge_repeated(Json::Object& members) const {
    std::vector<size_t> order(members.size());
    std::iota(order.begin(), order.end(), size_t{0});
    const auto before = [&](size_t a, size_t b) {
      const int by_key = members[a].first.compare(members[b].first);
      return by_key < 0 || (by_key == 0 && a < b);
    };
    std::sort(order.begin(), order.end(), before);
    std::vector<size_t> dropped;
    for (size_t i = 0, first = 0; i < order.size(); ++i) {
      if (i == 0 || members[order[i]].first != members[order[first]].first) {
        first = i;
        continue;
      }
      if (unique_keys)
        return make_error(ErrorCode::corrupt_data, "JSON: key {} stands twice",
                          json_quote(std::string_view(members[order[i]].first).substr(0, 80)));
      members[order[first]].second = std::move(members[order[i]].second);
      dropped.push_back(order[i]);
    }
    if (dropped.empty()) return {};
    std::sort(dropped.begin(), dropped.end());
    size_t kept = dropped.front(), next = 0;
    for (size_t i = kept; i < members.size(); ++i) {
      if (next < dropped.size() && dropped[next] == i)
        ++next;
      else
        members[kept++] = std::move(members[i]);
    }
    members.resize(kept);
    return {};
  }

  Result<Json> array(sj::ondemand::array in, int depth) {
    Json::Array out;
    for (auto element : in) {
      sj::ondemand::value item;
      QUERN_JSON_TRY(element.get(item));
      QUERN_TRY(Json converted, value(item, depth + 1));
      out.push_back(std::move(converted));
    }
    return Json(std::move(out));
  }

  Result<std::string> text(sj::ondemand::raw_json_string in) {
    uint8_t* to = space.data();
    std::string_view out;
    QUERN_JSON_TRY(parser.unescape(in, to).get(out));
    return std::string(out);
  }

  template <typename V>  // an ondemand::value, or the document itself, which has the same names
  Result<Json> value(V& in, int depth) {
    sj::ondemand::json_type type;
    QUERN_JSON_TRY(in.type().get(type));
    const bool nests = type == sj::ondemand::json_type::object || type == sj::ondemand::json_type::array;
    if (nests && depth == Json::kMaxDepth)
      return make_error(ErrorCode::corrupt_data, "JSON: nested deeper than {}", Json::kMaxDepth);
    switch (type) {
      case sj::ondemand::json_type::object: {
        sj::ondemand::object o;
        QUERN_JSON_TRY(in.get_object().get(o));
        return object(o, depth);
      }
      case sj::ondemand::json_type::array: {
        sj::ondemand::array a;
        QUERN_JSON_TRY(in.get_array().get(a));
        return array(a, depth);
      }
      case sj::ondemand::json_type::string: {
        sj::ondemand::raw_json_string s;
        QUERN_JSON_TRY(in.get_raw_json_string().get(s));
        QUERN_TRY(std::string content, text(s));
        return Json(std::move(content));
      }
      case sj::ondemand::json_type::boolean: {
        bool b = false;
        QUERN_JSON_TRY(in.get_bool().get(b));
        return Json(b);
      }
      case sj::ondemand::json_type::number:
        return number(in);
      case sj::ondemand::json_type::null: {
        if (auto r = null(in); !r) return std::move(r).error();
        return Json();
      }
    }
    return make_error(ErrorCode::corrupt_data, "JSON: expected a value");
  }

  template <typename V>
  static Status null(V& in) {
    bool is_null = false;
    if constexpr (requires { in.is_null().get(is_null); }) {
      if (const sj::error_code code = in.is_null().get(is_null)) return json_error(code);
    } else {
      is_null = in.is_null();
    }
    if (!is_null) return make_error(ErrorCode::corrupt_data, "JSON: expected null");
    return {};
  }

  static Result<Json> number(sj::ondemand::value& in) {
    Result<Json> parsed = number_from(in.raw_json_token());
    if (!parsed) return parsed;
    if (parsed->type() == Json::Type::big_integer)
      return parsed;     // simdjson has no type for it; its grammar is checked above
    double checked = 0;  // lets simdjson judge the grammar: no leading zeros, digits after the point
    if (const sj::error_code code = in.get_double().get(checked)) {
      if (code != sj::NUMBER_ERROR || std::isfinite(parsed->is_integer() ? 0.0 : parsed->number()))
        return json_error(code);
    }
    return parsed;
  }
};

void append_indent(std::string& out, int indent, int depth) {
  if (indent < 0) return;
  out += '\n';
  out.append(static_cast<size_t>(indent) * depth, ' ');
}

void dump_value(const Json& v, int indent, int depth, std::string& out) {
  switch (v.type()) {
    case Json::Type::null:
      out += "null";
      break;
    case Json::Type::boolean:
      out += v.boolean() ? "true" : "false";
      break;
    case Json::Type::integer:
      out += fmt::to_string(v.integer());
      break;
    case Json::Type::number:
      out += std::isfinite(v.number()) ? float_repr(v.number()) : "null";
      break;
    case Json::Type::big_integer:
      out += v.digits();
      break;
    case Json::Type::string:
      out += json_quote(v.string());
      break;
    case Json::Type::array: {
      out += '[';
      bool first = true;
      for (const Json& item : v.array()) {
        if (!first) out += ',';
        first = false;
        append_indent(out, indent, depth + 1);
        dump_value(item, indent, depth + 1, out);
      }
      if (!first) append_indent(out, indent, depth);
      out += ']';
      break;
    }
    case Json::Type::object: {
      out += '{';
      bool first = true;
      for (const auto& [key, item] : v.object()) {
        if (!first) out += ',';
        first = false;
        append_indent(out, indent, depth + 1);
        out += json_quote(key);
        out += indent < 0 ? ":" : ": ";
        dump_value(item, indent, depth + 1, out);
      }
      if (!first) append_indent(out, indent, depth);
      out += '}';
      break;
    }
  }
}

/// A document that is one scalar: simdjson's value interface wants a container around it.
Result<Json> parse_padded(sj::padded_string_view text, bool unique_keys, size_t most_keys) {
  sj::ondemand::parser parser;
  Converter converter{parser, std::vector<uint8_t>(text.size() + sj::SIMDJSON_PADDING), unique_keys, most_keys};
  sj::ondemand::document document;
  QUERN_JSON_TRY(parser.iterate(text).get(document));
  sj::ondemand::array wrapped;
  QUERN_JSON_TRY(document.get_array().get(wrapped));
  Json result;
  int count = 0;
  for (auto element : wrapped) {
    sj::ondemand::value item;
    QUERN_JSON_TRY(element.get(item));
    QUERN_TRY(result, converter.value(item, 0));
    ++count;
  }
  const char* rest = nullptr;
  const bool at_end = document.current_location().get(rest) == sj::OUT_OF_BOUNDS;
  if (count != 1 || !at_end) return make_error(ErrorCode::corrupt_data, "JSON: expected one document, found more");
  return result;
}

}  // namespace

Json::Json(uint64_t i) {
  if (i <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    data_ = static_cast<int64_t>(i);
  else
    data_ = BigInteger{fmt::to_string(i)};
}

Result<Json> Json::parse(std::string_view text, bool unique_keys, size_t most_keys) {
  const size_t start = text.find_first_not_of(" \t\r\n");
  if (start == text.npos) return make_error(ErrorCode::corrupt_data, "JSON: expected a document, found nothing");
  if (text.size() > std::numeric_limits<uint32_t>::max() - 64)
    return make_error(ErrorCode::unsupported, "JSON: {} bytes, at most 4 GiB", text.size());
  if (!sj::validate_utf8(text)) return make_error(ErrorCode::corrupt_data, "JSON: expected UTF-8, found other bytes");
  // Wrapped in an array, a scalar document needs no path of its own; a second document then shows as a second element
  // or as bytes after the closing bracket.
  std::string wrapped;
  wrapped.reserve(text.size() + 2 + sj::SIMDJSON_PADDING);
  wrapped += '[';
  wrapped += text;
  wrapped += ']';
  const size_t bytes = wrapped.size();
  wrapped.append(sj::SIMDJSON_PADDING, ' ');  // simdjson reads in blocks beyond the end
  return parse_padded(sj::padded_string_view(wrapped.data(), bytes, wrapped.size()), unique_keys, most_keys);
}

const Json* Json::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  for (const auto& [k, v] : object())
    if (k == key) return &v;
  return nullptr;
}

Json& Json::set(std::string_view key, Json value) {
  if (is_null()) data_ = Object{};
  for (auto& [k, v] : object())
    if (k == key) return v = std::move(value), *this;
  object().emplace_back(std::string(key), std::move(value));
  return *this;
}

std::string Json::dump(int indent) const {
  std::string out;
  dump_value(*this, indent, 0, out);
  return out;
}

std::string json_quote(std::string_view text, bool ascii) {
  std::string out = "\"";
  while (!text.empty()) {
    const Utf8Step step = utf8_decode(text);
    const char32_t cp = step.code_point;
    switch (cp) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (cp < 0x20 || (ascii && (cp == 0x7F || (cp > 0x7F && cp < 0x10000)))) {
          if (cp == 0x7F)
            out += '\x7F';
          else
            out += fmt::format("\\u{:04x}", static_cast<uint32_t>(cp));
        } else if (ascii && cp >= 0x10000) {
          const uint32_t v = static_cast<uint32_t>(cp) - 0x10000;
          out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (v >> 10), 0xDC00 + (v & 0x3FF));
        } else {
          utf8_append(out, cp);
        }
    }
    text.remove_prefix(step.length);
  }
  out += '"';
  return out;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32];
  const auto [end, status] = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view s(buffer, end - buffer);
  std::string sign;
  if (s.front() == '-') sign = "-", s.remove_prefix(1);
  const size_t e = s.find('e');
  int exponent = 0;
  std::from_chars(s.data() + e + (s[e + 1] == '+' ? 2 : 1), s.data() + s.size(), exponent);
  std::string digits(s.substr(0, 1));
  if (e > 2) digits += s.substr(2, e - 2);
  // Python: scientific where the exponent is below -4 or 16 and more.
  if (exponent < -4 || exponent >= 16) {
    std::string out = sign + digits.substr(0, 1);
    if (digits.size() > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02d}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return sign + "0." + std::string(-exponent - 1, '0') + digits;
  if (static_cast<int>(digits.size()) <= exponent + 1)
    return sign + digits + std::string(exponent + 1 - digits.size(), '0') + ".0";
  return sign + digits.substr(0, exponent + 1) + "." + digits.substr(exponent + 1);
}

}  // namespace quern
