// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/lexer.h"

#include <algorithm>

#include "quern/base/utf8.h"
#include "quern/chat/jinja/unicode.h"

namespace quern::jinja {
namespace {

constexpr std::string_view kSymbols[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                         "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

std::string with_plain_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

int hex_value(char c) {
  if (is_ascii_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_newlines(source)), text_(source_) {}

  Result<std::vector<Token>> run() {
    while (pos_ < text_.size()) QUERN_TRY_STATUS(data_and_tag());
    add(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  template <typename... Args>
  Error fail(fmt::format_string<Args...> format, Args&&... args) const {
    return make_error(ErrorCode::invalid_argument, "line {}: {}", line_,
                      fmt::format(format, std::forward<Args>(args)...));
  }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  bool at(std::string_view what) const { return text_.substr(pos_).starts_with(what); }

  void move_to(size_t position) {
    line_ += static_cast<int>(std::count(text_.begin() + pos_, text_.begin() + position, '\n'));
    if (position > pos_) line_starting_ = text_[position - 1] == '\n';
    pos_ = position;
  }

  size_t after_space(size_t position) const { return position + stripped(text_.substr(position), true, false).from; }

  /// Text up to the next tag, then the tag.
  Status data_and_tag() {
    size_t open = pos_;
    for (;; ++open) {
      open = text_.find('{', open);
      if (open == text_.npos || open + 1 == text_.size()) {
        add(TokenKind::data, std::string(text_.substr(pos_)));
        move_to(text_.size());
        return {};
      }
      const char next = text_[open + 1];
      if (next == '%' || next == '{' || next == '#') break;
    }
    const char type = text_[open + 1];
    const std::string_view before = text_.substr(pos_, open - pos_);
    size_t inside = open + 2;
    const char sign = inside < text_.size() && (text_[inside] == '-' || text_[inside] == '+') ? text_[inside] : ' ';
    if (sign != ' ') ++inside;
    add_data(before, sign, type != '{');
    if (type == '%')
      if (const size_t raw = after_raw_tag(inside)) {
        move_to(raw);
        return raw_block();
      }
    move_to(inside);
    if (type == '#') return comment();
    add(type == '%' ? TokenKind::block_begin : TokenKind::variable_begin, "");
    return type == '%' ? tag('%', TokenKind::block_end) : tag('}', TokenKind::variable_end);
  }

  /// `before` as the sign of the tag behind it leaves it.
  void add_data(std::string_view before, char sign, bool strips_line) {
    if (sign == '-') {
      before = before.substr(0, stripped(before, false, true).to);
    } else if (sign != '+' && strips_line) {
      const size_t line_start = before.rfind('\n') + 1;  // npos + 1 == 0
      const std::string_view tail = before.substr(line_start);
      const bool blank = !tail.empty() && stripped(tail, true, false).from == tail.size();
      if ((line_start > 0 || line_starting_) && blank) before = before.substr(0, line_start);
    }
    if (!before.empty()) add(TokenKind::data, std::string(before));
  }

  Status comment() {
    const size_t close = text_.find("#}", pos_);
    if (close == text_.npos) return fail("Missing end of comment tag");
    const char sign = close > pos_ ? text_[close - 1] : ' ';
    move_to(after_tag_end(close + 2, sign == '-' || sign == '+' ? sign : ' '));
    return {};
  }

  size_t after_tag_end(size_t position, char sign) const {
    if (sign == '-') return after_space(position);
    if (sign != '+' && position < text_.size() && text_[position] == '\n') return position + 1;
    return position;
  }

  /// The position behind `raw %}` when a raw block starts here, else 0.
  size_t after_raw_tag(size_t inside) const {
    size_t p = after_space(inside);
    if (!text_.substr(p).starts_with("raw")) return 0;
    p = after_space(p + 3);
    if (text_.substr(p).starts_with("-%}")) return after_space(p + 3);
    return text_.substr(p).starts_with("%}") ? p + 2 : 0;
  }

  Status raw_block() {
    for (size_t open = text_.find("{%", pos_); open != text_.npos; open = text_.find("{%", open + 1)) {
      size_t p = open + 2;
      const char sign = p < text_.size() && (text_[p] == '-' || text_[p] == '+') ? text_[p] : ' ';
      if (sign != ' ') ++p;
      p = after_space(p);
      if (!text_.substr(p).starts_with("endraw")) continue;
      p = after_space(p + 6);
      const char end_sign = p < text_.size() && (text_[p] == '-' || text_[p] == '+') ? text_[p] : ' ';
      if (end_sign != ' ') ++p;
      if (!text_.substr(p).starts_with("%}")) continue;
      add_data(text_.substr(pos_, open - pos_), sign, true);
      move_to(after_tag_end(p + 2, end_sign));
      return {};
    }
    return fail("Missing end of raw directive");
  }

  /// The tokens of a tag up to and with its end.
  Status tag(char close, TokenKind end_kind) {
    std::string open_brackets;
    while (pos_ < text_.size()) {
      if (open_brackets.empty() && tag_end(close, end_kind)) return {};
      QUERN_TRY_STATUS(token(open_brackets));
    }
    return fail("the template ends inside a tag");
  }

  bool tag_end(char close, TokenKind end_kind) {
    size_t p = pos_;
    const char sign = text_[p];
    const bool signed_end = sign == '-' || (sign == '+' && close == '%');
    if (signed_end) ++p;
    if (p + 1 >= text_.size() || text_[p] != close || text_[p + 1] != '}') return false;
    add(end_kind, "");
    p += 2;
    if (signed_end || close == '%') p = after_tag_end(p, signed_end ? sign : ' ');
    move_to(p);
    return true;
  }

  Status token(std::string& open_brackets) {
    const Utf8Step step = utf8_decode(text_.substr(pos_));
    if (is_space(step.code_point)) return move_to(after_space(pos_)), Status();
    if (is_ascii_digit(text_[pos_])) return number();
    if (is_word(step.code_point)) return name();
    if (text_[pos_] == '\'' || text_[pos_] == '"') return string();
    for (const std::string_view symbol : kSymbols)
      if (at(symbol)) {
        QUERN_TRY_STATUS(balance(symbol.front(), open_brackets));
        add(TokenKind::symbol, std::string(symbol));
        move_to(pos_ + symbol.size());
        return {};
      }
    return fail("unexpected char '{}'", text_.substr(pos_, step.length));
  }

  Status balance(char c, std::string& open_brackets) const {
    if (c == '(' || c == '[' || c == '{') {
      open_brackets += c == '(' ? ')' : static_cast<char>(c + 2);
    } else if (c == ')' || c == ']' || c == '}') {
      if (open_brackets.empty()) return fail("unexpected '{}'", c);
      if (open_brackets.back() != c) return fail("unexpected '{}', expected '{}'", c, open_brackets.back());
      open_brackets.pop_back();
    }
    return {};
  }

  Status name() {
    size_t p = pos_;
    bool valid = is_name_start(utf8_decode(text_.substr(p)).code_point);
    while (p < text_.size()) {
      const Utf8Step step = utf8_decode(text_.substr(p));
      if (!is_word(step.code_point)) break;
      valid = valid && is_name_part(step.code_point);
      p += step.length;
    }
    if (!valid) return fail("Invalid character in identifier");
    add(TokenKind::name, std::string(text_.substr(pos_, p - pos_)));
    move_to(p);
    return {};
  }

  /// Digits with single underscores between them; `position` itself if there are none.
  template <typename IsDigit>
  size_t after_digits(size_t position, IsDigit is_digit_char) const {
    size_t p = position;
    while (p < text_.size()) {
      if (is_digit_char(text_[p]))
        ++p;
      else if (p > position && text_[p] == '_' && p + 1 < text_.size() && is_digit_char(text_[p + 1]))
        p += 2;
      else
        break;
    }
    return p;
  }

  size_t after_float() const {
    if (pos_ > 0 && text_[pos_ - 1] == '.') return pos_;
    size_t p = after_digits(pos_, is_ascii_digit);
    bool is_float = false;
    if (p + 1 < text_.size() && text_[p] == '.' && is_ascii_digit(text_[p + 1]))
      p = after_digits(p + 1, is_ascii_digit), is_float = true;
    if (p < text_.size() && (text_[p] == 'e' || text_[p] == 'E')) {
      size_t exponent = p + 1;
      if (exponent < text_.size() && (text_[exponent] == '+' || text_[exponent] == '-')) ++exponent;
      if (const size_t end = after_digits(exponent, is_ascii_digit); end > exponent) return end;
    }
    return is_float ? p : pos_;
  }

  size_t after_based(char letter, size_t (Lexer::*digits)(size_t) const) const {
    if (text_[pos_] != '0' || pos_ + 2 >= text_.size() || (text_[pos_ + 1] | 0x20) != letter) return pos_;
    const size_t start = pos_ + (text_[pos_ + 2] == '_' ? 3 : 2);
    const size_t end = (this->*digits)(start);
    return end > start ? end : pos_;
  }
  size_t after_binary(size_t p) const {
    return after_digits(p, [](char c) { return c == '0' || c == '1'; });
  }
  size_t after_octal(size_t p) const {
    return after_digits(p, [](char c) { return c >= '0' && c <= '7'; });
  }
  size_t after_hex(size_t p) const {
    return after_digits(p, [](char c) { return hex_value(c) >= 0; });
  }

  Status number() {
    TokenKind kind = TokenKind::floating;
    size_t end = after_float();
    if (end == pos_) {
      kind = TokenKind::integer;
      end = std::max({after_based('b', &Lexer::after_binary), after_based('o', &Lexer::after_octal),
                      after_based('x', &Lexer::after_hex)});
      if (end == pos_)
        end = text_[pos_] == '0' ? after_digits(pos_, [](char c) { return c == '0'; })
                                 : after_digits(pos_, is_ascii_digit);
    }
    std::string digits(text_.substr(pos_, end - pos_));
    std::erase(digits, '_');
    add(kind, std::move(digits));
    move_to(end);
    return {};
  }

  Status string() {
    const char quote = text_[pos_];
    size_t end = pos_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) return fail("unexpected char '{}'", quote);
    std::string value;
    for (size_t p = pos_ + 1; p < end;) {
      if (text_[p] != '\\')
        value += text_[p++];
      else
        QUERN_TRY_STATUS(escape(p, end, value));
    }
    add(TokenKind::string, std::move(value));
    move_to(end + 1);
    return {};
  }

  Status escape(size_t& p, size_t end, std::string& out) const {
    static constexpr std::string_view kLetters = "\\'\"abfnrtv", kMeanings = "\\'\"\a\b\f\n\r\t\v";
    const char c = text_[p + 1];
    if (const size_t i = kLetters.find(c); i != kLetters.npos) {
      out += kMeanings[i];
      p += 2;
    } else if (c == '\n') {
      p += 2;
    } else if (c >= '0' && c <= '7') {
      char32_t value = 0;
      const size_t stop = std::min(end, p + 4);
      for (++p; p < stop && text_[p] >= '0' && text_[p] <= '7'; ++p) value = value * 8 + (text_[p] - '0');
      utf8_append(out, value);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      return hex_escape(p, end, c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
    } else if (c == 'N') {
      return fail("\\N{{...}} in a string is not supported");
    } else {
      out += '\\';
      ++p;
    }
    return {};
  }

  Status hex_escape(size_t& p, size_t end, int digits, std::string& out) const {
    char32_t value = 0;
    p += 2;
    for (int i = 0; i < digits; ++i, ++p) {
      const int digit = p < end ? hex_value(text_[p]) : -1;
      if (digit < 0) return fail("a string escape needs {} hexadecimal digits", digits);
      value = value * 16 + static_cast<char32_t>(digit);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
      return fail("a string escape names U+{:04X}, which is no character", static_cast<uint32_t>(value));
    utf8_append(out, value);
    return {};
  }

  const std::string source_;
  const std::string_view text_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> lex(std::string_view source) {
  if (!utf8_valid(source)) return make_error(ErrorCode::invalid_argument, "the template is not UTF-8");
  return Lexer(source).run();
}

}  // namespace quern::jinja
