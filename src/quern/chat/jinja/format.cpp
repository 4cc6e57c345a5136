// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/format.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "quern/base/json.h"
#include "quern/base/utf8.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"

namespace quern::jinja {
namespace {

constexpr int kMaxPrecision = 300;  // digits; more only pads

/// What stands between % and its letter, or behind the colon of a replacement field.
struct Spec {
  std::string fill = " ";
  bool user_fill = false;
  char align = 0;  // < > ^ = or none given
  char sign = '-';
  bool alternate = false;
  bool comma = false;
  int64_t width = 0;
  int precision = -1;
  char type = 0;
};

/// Digits at `p` as a number, bounded; -1 if there are none.
Result<int64_t> read_count(std::string_view text, size_t& p) {
  int64_t value = -1;
  const auto [end, status] = std::from_chars(text.data() + p, text.data() + text.size(), value);
  if (status == std::errc::result_out_of_range || value > 1'000'000'000)
    return template_error("a width in a format is too large");
  if (status != std::errc()) return int64_t{-1};
  p = static_cast<size_t>(end - text.data());
  return value;
}

Status append_padded(Runtime& rt, const Text& body, const Spec& spec, char default_align, Text& out) {
  const auto chars = static_cast<int64_t>(count_chars(body.view()));
  const int64_t missing = std::max<int64_t>(0, spec.width - chars);
  QUERN_TRY_STATUS(rt.reserve(missing * 4));
  const char align = spec.align ? spec.align : default_align;
  const int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  const auto pad = [&](int64_t n) {
    std::string padding;
    for (int64_t i = 0; i < n; ++i) padding += spec.fill;
    out.append(padding, spec.user_fill);
  };
  if (align == '=') {  // between sign and digits
    const size_t sign = body.view().find_first_not_of("+-") == 0 ? 0 : 1;
    const size_t prefix = body.view().substr(sign).starts_with("0x") || body.view().substr(sign).starts_with("0o") ||
                                  body.view().substr(sign).starts_with("0b")
                              ? sign + 2
                              : sign;
    out.append(body, 0, std::min(prefix, body.size()));
    pad(missing);
    out.append(body, std::min(prefix, body.size()), body.size());
    return {};
  }
  pad(left);
  out.append(body);
  pad(missing - left);
  return {};
}

std::string with_sign(std::string digits, bool negative, char sign) {
  if (negative) return "-" + digits;
  return sign == '+' || sign == ' ' ? sign + digits : digits;
}

std::string with_commas(std::string digits) {
  size_t end = digits.find_first_not_of("0123456789");
  if (end == digits.npos) end = digits.size();
  for (size_t i = end; i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

Result<std::string> integer_digits(int64_t value, const Spec& spec) {
  const uint64_t magnitude = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  std::string digits;
  switch (spec.type) {
    case 'x':
      digits = fmt::format("{:x}", magnitude);
      break;
    case 'X':
      digits = fmt::format("{:X}", magnitude);
      break;
    case 'o':
      digits = fmt::format("{:o}", magnitude);
      break;
    case 'b':
      digits = fmt::format("{:b}", magnitude);
      break;
    default:
      digits = fmt::to_string(magnitude);
  }
  if (static_cast<int>(digits.size()) < spec.precision)
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  if (spec.alternate && (spec.type == 'x' || spec.type == 'X' || spec.type == 'o' || spec.type == 'b'))
    digits = std::string("0") + spec.type + digits;
  if (spec.comma) digits = with_commas(std::move(digits));
  return with_sign(std::move(digits), value < 0, spec.sign);
}

std::string float_digits(double value, const Spec& spec, int default_precision) {
  const double magnitude = std::abs(value);
  const int precision = std::min(spec.precision < 0 ? default_precision : spec.precision, kMaxPrecision);
  const bool percent = spec.type == '%';
  std::string digits;
  if (std::isnan(value))
    digits = "nan";
  else if (std::isinf(value))
    digits = "inf";
  else {
    std::string format = spec.alternate ? "%#.*" : "%.*";
    format += percent ? 'f' : spec.type;
    char buffer[800];
    const int n =
        std::snprintf(buffer, sizeof buffer, format.c_str(), precision, percent ? magnitude * 100 : magnitude);
    digits.assign(buffer, static_cast<size_t>(std::min<int>(std::max(n, 0), sizeof buffer - 1)));
  }
  if (spec.comma) digits = with_commas(std::move(digits));
  if (percent) digits += '%';
  return with_sign(std::move(digits), std::signbit(value) && !std::isnan(value), spec.sign);
}

bool is_float_type(char type) { return std::string_view("eEfFgG%").find(type) != std::string_view::npos; }

Result<double> number_for(const Value& value, char type) {
  if (const auto d = as_double(value)) return *d;
  return template_error("format '{}' needs a number, not {}", type, type_name(value));
}

// %-formatting.

class PercentFormatter {
 public:
  PercentFormatter(Runtime& rt, const Text& format, const Value& arguments)
      : rt_(rt), format_(format), view_(format.view()), arguments_(arguments) {}

  Result<Text> run() {
    size_t p = 0;
    while (p < view_.size()) {
      const size_t percent = std::min(view_.find('%', p), view_.size());
      out_.append(format_, p, percent);
      p = percent;
      if (p < view_.size()) QUERN_TRY_STATUS(conversion(p));
    }
    // Lists, dicts and ranges may go unused: they could have been meant for %(name)s.
    const bool may_be_mapping = arguments_.is(Kind::dict) || arguments_.is(Kind::list) || arguments_.is(Kind::range);
    const bool all_used =
        arguments_.is(Kind::tuple) ? used_ >= arguments_.as<ListObject>().items.size() : used_ > 0 || may_be_mapping;
    if (!all_used) return template_error("not all arguments converted during string formatting");
    return std::move(out_);
  }

 private:
  Result<Value> next_argument() {
    if (!arguments_.is(Kind::tuple)) {
      if (used_++ > 0) return template_error("not enough arguments for format string");
      return arguments_;
    }
    const Values& items = arguments_.as<ListObject>().items;
    if (used_ >= items.size()) return template_error("not enough arguments for format string");
    return items[used_++];
  }

  Result<int64_t> count_or_star(size_t& p) {
    if (p < view_.size() && view_[p] == '*') {
      ++p;
      QUERN_TRY(const Value v, next_argument());
      if (!v.is_integral()) return template_error("* wants int");
      return v.as_integer();
    }
    return read_count(view_, p);
  }

  Status conversion(size_t& p) {
    const size_t start = p++;
    Spec spec;
    std::optional<Value> named;
    if (p < view_.size() && view_[p] == '(') QUERN_TRY_STATUS(mapping_key(p, named));
    bool zero = false;
    for (; p < view_.size(); ++p) {
      const char c = view_[p];
      if (c == '-')
        spec.align = '<';
      else if (c == '+')
        spec.sign = '+';
      else if (c == ' ')
        spec.sign = spec.sign == '+' ? '+' : ' ';
      else if (c == '#')
        spec.alternate = true;
      else if (c == '0')
        zero = true;
      else
        break;
    }
    QUERN_TRY(int64_t width, count_or_star(p));
    if (width < -1) spec.align = '<', width = -width;
    if (width > 1'000'000'000) return template_error("a width in a format is too large");
    spec.width = std::max<int64_t>(width, 0);
    if (p < view_.size() && view_[p] == '.') {
      ++p;
      QUERN_TRY(const int64_t precision, count_or_star(p));
      spec.precision = static_cast<int>(std::clamp<int64_t>(precision, 0, 100'000'000));
    }
    while (p < view_.size() && (view_[p] == 'l' || view_[p] == 'h' || view_[p] == 'L')) ++p;
    if (p >= view_.size()) return template_error("incomplete format");
    spec.type = view_[p++];
    if (spec.type == '%') return out_.append(format_, start, start + 1), Status();
    Value argument;
    if (named)
      argument = *std::move(named);
    else {
      QUERN_TRY(argument, next_argument());
    }
    return convert(argument, spec, zero);
  }

  Status mapping_key(size_t& p, std::optional<Value>& named) {
    const size_t close = view_.find(')', p);
    if (close == view_.npos) return template_error("incomplete format key");
    if (!arguments_.is(Kind::dict)) return template_error("format requires a mapping");
    const std::string_view key = view_.substr(p + 1, close - p - 1);
    const Value* found = find_string_key(arguments_.as<DictObject>(), key);
    if (!found) return template_error("format key '{}' is not there", key);
    named = *found;
    p = close + 1;
    return {};
  }

  Status convert(const Value& v, Spec spec, bool zero) {
    Text body;
    switch (spec.type) {
      case 's':
      case 'r': {
        if (spec.type == 's')
          QUERN_TRY_STATUS(append_str(rt_, v, body));
        else
          QUERN_TRY_STATUS(append_repr(rt_, v, body));
        if (spec.precision >= 0) body = body.slice(0, char_position(body.view(), static_cast<size_t>(spec.precision)));
        return append_padded(rt_, body, spec, '>', out_);
      }
      case 'c':
        if (v.is(Kind::string) && v.as<StringObject>().chars() == 1)
          return append_padded(rt_, v.text(), spec, '>', out_);
        if (v.is_integral() && v.as_integer() >= 0 && v.as_integer() < 0xD800) {
          std::string c;
          utf8_append(c, static_cast<char32_t>(v.as_integer()));
          return append_padded(rt_, Text(std::move(c), true), spec, '>', out_);
        }
        return template_error("%c requires int or char");
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o': {
        QUERN_TRY(const int64_t value, integer_for(v, spec.type));
        QUERN_TRY_STATUS(rt_.reserve(std::max(spec.precision, 0)));
        QUERN_TRY(std::string digits, integer_digits(value, spec));
        body.append(digits, false);
        break;
      }
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        QUERN_TRY_STATUS(check_defined(v));
        QUERN_TRY(const double value, number_for(v, spec.type));
        if (spec.precision > kMaxPrecision) return template_error("a precision in a format is too large");
        body.append(float_digits(value, spec, 6), false);
        break;
      }
      default:
        return template_error("unsupported format character '{}'", spec.type);
    }
    if (zero && spec.align != '<') spec.fill = "0", spec.align = '=';
    return append_padded(rt_, body, spec, '>', out_);
  }

  Result<int64_t> integer_for(const Value& v, char type) const {
    QUERN_TRY_STATUS(check_defined(v));
    if (v.is_integral()) return v.as_integer();
    if (v.is(Kind::floating) && (type == 'd' || type == 'i' || type == 'u') && std::abs(v.as_floating()) < 9.2e18)
      return static_cast<int64_t>(v.as_floating());
    return template_error("%{} format: a number is required, not {}", type, type_name(v));
  }

  Runtime& rt_;
  const Text& format_;
  const std::string_view view_;
  const Value& arguments_;
  size_t used_ = 0;
  Text out_;
};

// str.format.

class BraceFormatter {
 public:
  BraceFormatter(Runtime& rt, const Text& format, const Values& positional, const NamedValues& named)
      : rt_(rt), format_(format), view_(format.view()), positional_(positional), named_(named) {}

  Result<Text> run() {
    Text out;
    size_t p = 0;
    while (p < view_.size()) {
      const size_t brace = std::min(view_.find_first_of("{}", p), view_.size());
      out.append(format_, p, brace);
      p = brace;
      if (p == view_.size()) break;
      if (p + 1 < view_.size() && view_[p + 1] == view_[p]) {
        out.append(format_, p, p + 1);
        p += 2;
      } else if (view_[p] == '}') {
        return template_error("Single '}}' encountered in format string");
      } else {
        QUERN_TRY_STATUS(field(p, out));
      }
    }
    return out;
  }

 private:
  Status field(size_t& p, Text& out) {
    const size_t close = view_.find('}', p);
    if (close == view_.npos) return template_error("expected '}}' before end of string");
    std::string_view inside = view_.substr(p + 1, close - p - 1);
    if (inside.find('{') != inside.npos)
      return template_error("nested fields in a format specification are not supported");
    p = close + 1;
    std::string_view spec_text;
    if (const size_t colon = inside.find(':'); colon != inside.npos)
      spec_text = inside.substr(colon + 1), inside = inside.substr(0, colon);
    char conversion = 0;
    if (const size_t mark = inside.find('!'); mark != inside.npos) {
      if (inside.size() != mark + 2) return template_error("expected one conversion letter after '!'");
      conversion = inside[mark + 1];
      inside = inside.substr(0, mark);
    }
    QUERN_TRY(Value value, field_value(inside));
    if (conversion == 's') {
      QUERN_TRY(value, to_string(rt_, value));
    } else if (conversion == 'r') {
      Text repr;
      QUERN_TRY_STATUS(append_repr(rt_, value, repr));
      value = rt_.string(std::move(repr));
    } else if (conversion) {
      return template_error("unsupported conversion '!{}'", conversion);
    }
    return format_value(value, spec_text, out);
  }

  Result<Value> field_value(std::string_view path) {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    const std::string_view first = path.substr(0, end);
    QUERN_TRY(Value value, first_value(first));
    path.remove_prefix(end);
    while (!path.empty()) {
      if (path.front() == '.') {
        const size_t stop = std::min(path.find_first_of(".[", 1), path.size());
        const std::string_view name = path.substr(1, stop - 1);
        if (name.starts_with("_") || value.is(Kind::dict))
          return template_error("'{}' has no attribute '{}'", type_name(value), name);
        QUERN_TRY(value, get_attribute(rt_, value, Text(std::string(name))));
        path.remove_prefix(stop);
      } else {
        const size_t stop = path.find(']');
        if (stop == path.npos || path.front() != '[') return template_error("Missing ']' in format string");
        size_t p = 1;
        QUERN_TRY(const int64_t index, read_count(path, p));
        const Value key = index >= 0 && p == stop ? Value::integer(index) : rt_.string(path.substr(1, stop - 1));
        QUERN_TRY(value, get_item(rt_, value, key));
        path.remove_prefix(stop + 1);
      }
      QUERN_TRY_STATUS(check_defined(value));
    }
    return value;
  }

  Result<Value> first_value(std::string_view name) {
    size_t p = 0;
    QUERN_TRY(int64_t index, read_count(name, p));
    if (!name.empty() && (index < 0 || p != name.size())) {
      for (const auto& [key, value] : named_)
        if (key == name) return value;
      return template_error("format field '{}' is not given", name);
    }
    const Numbering numbering = name.empty() ? Numbering::automatic : Numbering::manual;
    if (numbering_ != Numbering::open && numbering_ != numbering)
      return template_error("cannot switch between automatic field numbering and manual");
    numbering_ = numbering;
    if (name.empty()) index = static_cast<int64_t>(next_++);
    if (index >= static_cast<int64_t>(positional_.size()))
      return template_error("Replacement index {} out of range for positional args tuple", index);
    return positional_[static_cast<size_t>(index)];
  }

  Result<Spec> read_spec(std::string_view text) {
    Spec spec;
    spec.user_fill = format_.has_user();
    size_t p = 0;
    const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
    const auto fill = text.empty() ? size_t{0} : static_cast<size_t>(utf8_decode(text).length);
    if (fill < text.size() && is_align(text[fill]))
      spec.fill = text.substr(0, fill), spec.align = text[fill], p = fill + 1;
    else if (!text.empty() && is_align(text[0]))
      spec.align = text[0], p = 1;
    const auto skip = [&](char c) { return p < text.size() && text[p] == c && (++p, true); };
    for (const char sign : {'+', '-', ' '})
      if (skip(sign)) {
        spec.sign = sign;
        break;
      }
    spec.alternate = skip('#');
    if (skip('0') && !spec.align) spec.fill = "0", spec.align = '=';
    QUERN_TRY(const int64_t width, read_count(text, p));
    spec.width = std::max<int64_t>(width, 0);
    spec.comma = skip(',');
    if (skip('.')) {
      QUERN_TRY(const int64_t precision, read_count(text, p));
      if (precision < 0 || precision > 100'000'000) return template_error("Format specifier missing precision");
      spec.precision = static_cast<int>(precision);
    }
    if (p < text.size()) spec.type = text[p++];
    if (p != text.size()) return template_error("Invalid format specifier '{}'", text);
    return spec;
  }

  Status format_value(const Value& value, std::string_view spec_text, Text& out) {
    if (spec_text.empty()) return append_str(rt_, value, out);
    QUERN_TRY(Spec spec, read_spec(spec_text));
    if (value.is(Kind::string)) {
      if ((spec.type && spec.type != 's') || spec.align == '=')
        return template_error("Unknown format code '{}' for object of type 'str'", spec.type);
      Text body = value.text();
      if (spec.precision >= 0) body = body.slice(0, char_position(body.view(), static_cast<size_t>(spec.precision)));
      return append_padded(rt_, body, spec, '<', out);
    }
    if (value.is(Kind::integer) && !is_float_type(spec.type)) {
      if (spec.precision >= 0 || (spec.type && std::string_view("dxXob").find(spec.type) == std::string_view::npos))
        return template_error("Unknown format code '{}' for object of type 'int'", spec.type);
      QUERN_TRY(std::string digits, integer_digits(value.as_integer(), spec));
      return append_padded(rt_, Text(std::move(digits)), spec, '>', out);
    }
    if (value.is(Kind::integer) || value.is(Kind::floating)) {
      if (!is_float_type(spec.type)) return template_error("float format '{}' is not supported", spec_text);
      if (spec.precision > kMaxPrecision) return template_error("a precision in a format is too large");
      return append_padded(rt_, Text(float_digits(*as_double(value), spec, 6)), spec, '>', out);
    }
    return template_error("unsupported format string passed to {}.__format__", type_name(value));
  }

  Runtime& rt_;
  const Text& format_;
  const std::string_view view_;
  const Values& positional_;
  enum class Numbering : uint8_t { open, automatic, manual };

  const NamedValues& named_;
  Numbering numbering_ = Numbering::open;
  size_t next_ = 0;
};

}  // namespace

Result<Value> percent_format(Runtime& rt, const Value& format, const Value& arguments) {
  QUERN_TRY_STATUS(rt.spend_bytes(format.view().size()));
  if (format.as<StringObject>().markup) return template_error("% on markup is not supported");
  QUERN_TRY(Text out, PercentFormatter(rt, format.text(), arguments).run());
  return rt.string(std::move(out));
}

Result<Value> brace_format(Runtime& rt, const Text& format, const Values& positional, const NamedValues& named) {
  QUERN_TRY_STATUS(rt.spend_bytes(format.size()));
  QUERN_TRY(Text out, BraceFormatter(rt, format, positional, named).run());
  return rt.string(std::move(out));
}

double round_decimals(double value, int decimals) {
  if (!std::isfinite(value) || decimals > 320) return value;
  if (decimals >= 0) {
    char buffer[800];
    std::snprintf(buffer, sizeof buffer, "%.*f", decimals, value);
    return std::strtod(buffer, nullptr);
  }
  if (decimals < -310) return std::copysign(0.0, value);
  const double unit = std::pow(10.0, -decimals);
  return std::nearbyint(value / unit) * unit;
}

}  // namespace quern::jinja
