// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <ctime>

#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"

namespace quern::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // of Jinja2's sandbox

Result<Value> range(Call& c) {
  int64_t bounds[3] = {0, 0, 1};
  size_t given = 0;
  for (size_t i = 0; i < 3 && c[i].given(); ++i, ++given) {
    QUERN_TRY(bounds[i], integer_argument(c[i], "range"));
  }
  if (given == 1) bounds[1] = std::exchange(bounds[0], 0);
  if (bounds[2] == 0) return template_error("range() arg 3 must not be zero");
  Value out(c.rt.heap.make<RangeObject>(0, bounds[0], bounds[1], bounds[2]));
  const int64_t n = out.as<RangeObject>().length();
  if (n < 0 || n > kMaxRange)
    return template_error("Range too big. The sandbox blocks ranges larger than {}.", kMaxRange);
  return out;
}

Result<Value> dict(Call& c) {
  Value out = c.rt.dict();
  if (c[0].given()) QUERN_TRY_STATUS(add_entries(c.rt, out.as<DictObject>(), c[0]));
  for (auto& [name, value] : c.named) QUERN_TRY_STATUS(set_key(c.rt, out.as<DictObject>(), c.rt.string(name), value));
  return out;
}

Result<Value> name_space(Call& c) {
  QUERN_TRY(const Value attributes, dict(c));
  auto* out = c.rt.heap.make<NamespaceObject>(0);
  Value result(out);
  for (const auto& [key, value] : attributes.as<DictObject>().entries) {
    if (!key.is(Kind::string))
      return template_error("namespace(): attribute names must be strings, not {}", type_name(key));
    if (key.view().starts_with('_'))
      return template_error(
          "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '{}'. Please rename the "
          "attribute.",
          key.view());
    out->attributes.emplace_back(key.view(), value);
    c.rt.heap.charge(*out, static_cast<int64_t>(sizeof(out->attributes.front()) + key.view().size()));
  }
  return result;
}

Result<Value> cycler(Call& c) {
  if (c.rest.empty()) return template_error("at least one item has to be provided");
  const auto bytes = static_cast<int64_t>(c.rest.size() * sizeof(Value));
  return Value(c.rt.heap.make<CyclerObject>(bytes, std::move(c.rest)));
}

Result<Value> joiner(Call& c) {
  return Value(c.rt.heap.make<JoinerObject>(0, c[0].given() ? c[0] : c.rt.string(", ")));
}

Result<Value> raise_exception(Call& c) {
  Text words;
  QUERN_TRY_STATUS(append_str(c.rt, c[0], words));
  c.rt.raised = true;
  return Error{ErrorCode::invalid_argument, words.bytes()};
}

/// strftime as a naive datetime does it: no zone. Broken-down times from outside may lack day of week and of year.
Result<Value> strftime_now(Call& c) {
  QUERN_TRY(const std::string_view format, string_argument(c[0], "format"));
  if (format.size() > 1000) return template_error("strftime_now: a format of {} bytes, at most 1000", format.size());
  std::string plain;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      plain += format[i];
      continue;
    }
    const char letter = format[++i];
    if (letter == 'Z' || letter == 'z') continue;
    if (letter == 'f')
      plain += "000000";
    else if (letter >= '0' && letter <= '9')
      return template_error("strftime_now: widths are not supported");
    else
      plain += '%', plain += letter;
  }
  std::tm clock = c.rt.now;
  clock.tm_isdst = 0;
  timegm(&clock);
  char buffer[8192];
  // Zero is also the length of an empty result; the blank in front tells the two apart.
  const size_t n = std::strftime(buffer, sizeof buffer, (" " + plain).c_str(), &clock);
  if (n == 0) return template_error("strftime_now: the result is too long");
  return c.rt.string(Text(std::string(buffer + 1, n - 1), c[0].text().has_user()));
}

constexpr Builtin kTable[] = {
    {"cycler", "*", cycler},
    {"dict", "/mapping **", dict},
    {"joiner", "sep", joiner},
    {"lipsum", "* **", nullptr},
    {"namespace", "/mapping **", name_space},
    {"raise_exception", "message!", raise_exception},
    {"range", "start! stop step", range},
    {"strftime_now", "format!", strftime_now},
};

}  // namespace

std::span<const Builtin> functions() { return kTable; }

}  // namespace quern::jinja
