// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/numbers.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string>

#include "quern/chat/jinja/unicode.h"

namespace quern::jinja {
namespace {

std::string_view without_space(std::string_view text) {
  const Range range = stripped(text, true, true);
  return text.substr(range.from, range.to - range.from);
}

/// The text without underscores; nothing if one does not stand between digits.
std::optional<std::string> without_underscores(std::string_view text) {
  const auto alnum = [](char c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'); };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_')
      out += text[i];
    else if (i == 0 || i + 1 == text.size() || !alnum(text[i - 1]) || !alnum(text[i + 1]))
      return std::nullopt;
  }
  return out;
}

}  // namespace

std::optional<Value> parse_integer(Runtime& rt, std::string_view text, int base) {
  text = without_space(text);
  bool negative = false;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) negative = text[0] == '-', text.remove_prefix(1);
  const auto prefix_base = [&] {
    if (text.size() < 2 || text[0] != '0') return 0;
    const char letter = static_cast<char>(text[1] | 0x20);
    return letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
  }();
  if (prefix_base && (base == prefix_base || base == 0)) {
    text.remove_prefix(2);
    if (text.starts_with('_')) text.remove_prefix(1);
    base = prefix_base;
  } else if (base == 0) {
    base = 10;
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != text.npos) return std::nullopt;
  }
  const auto digits = without_underscores(text);
  if (!digits || digits->empty() || digits->front() == '-' || digits->front() == '+' || base < 2 || base > 36)
    return std::nullopt;
  const std::string signed_digits = (negative ? "-" : "") + *digits;
  int64_t value = 0;
  const auto [end, status] =
      std::from_chars(signed_digits.data(), signed_digits.data() + signed_digits.size(), value, base);
  if (end != signed_digits.data() + signed_digits.size()) return std::nullopt;
  if (status == std::errc()) return Value::integer(value);
  if (base != 10 || digits->size() > 4300) return std::nullopt;  // Python's own limit of digits
  std::string plain = digits->substr(std::min(digits->find_first_not_of('0'), digits->size() - 1));
  if (negative) plain.insert(0, "-");
  return Value(rt.heap.make<BigIntegerObject>(static_cast<int64_t>(plain.size()), std::move(plain)));
}

std::optional<double> parse_float(std::string_view text) {
  const auto plain = without_underscores(without_space(text));
  if (!plain || plain->empty()) return std::nullopt;
  std::string lower;
  for (const char c : *plain) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  std::string_view word = lower;
  if (word[0] == '+' || word[0] == '-') word.remove_prefix(1);
  const bool is_word = word == "inf" || word == "infinity" || word == "nan";
  if (!is_word && word.find_first_not_of("0123456789.e+-") != word.npos) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(lower.c_str(), &end);
  if (end != lower.c_str() + lower.size()) return std::nullopt;
  return value;
}

}  // namespace quern::jinja
