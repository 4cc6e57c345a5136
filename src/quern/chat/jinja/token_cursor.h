// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/chat/jinja/lexer.h"

namespace quern::jinja {

/// Where a parser stands in the tokens of a template: looks at them, steps over them, or says what it expected.
class TokenCursor {
 protected:
  using Names = std::initializer_list<std::string_view>;

  explicit TokenCursor(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[pos_]; }
  const Token& look() const { return tokens_[std::min(pos_ + 1, tokens_.size() - 1)]; }
  void advance() { pos_ += pos_ + 1 < tokens_.size(); }
  bool at(TokenKind kind) const { return current().kind == kind; }
  bool at_symbol(std::string_view symbol) const { return at(TokenKind::symbol) && current().text == symbol; }
  bool at_name(std::string_view name) const { return at(TokenKind::name) && current().text == name; }
  bool at_any(Names names) const {
    return at(TokenKind::name) && std::find(names.begin(), names.end(), current().text) != names.end();
  }

  bool skip_symbol(std::string_view symbol) { return at_symbol(symbol) && (advance(), true); }
  bool skip_name(std::string_view name) { return at_name(name) && (advance(), true); }
  static std::string describe(const Token& token) {
    switch (token.kind) {
      case TokenKind::data:
        return "template text";
      case TokenKind::block_begin:
        return "begin of statement block";
      case TokenKind::block_end:
        return "end of statement block";
      case TokenKind::variable_begin:
        return "begin of print statement";
      case TokenKind::variable_end:
        return "end of print statement";
      case TokenKind::string:
        return "a string";
      case TokenKind::end:
        return "end of template";
      default:
        return fmt::format("'{}'", token.text);
    }
  }

  template <typename... Args>
  Error fail_at(int line, fmt::format_string<Args...> format, Args&&... args) const {
    return make_error(ErrorCode::invalid_argument, "line {}: {}", line,
                      fmt::format(format, std::forward<Args>(args)...));
  }

  Error expected(std::string_view what) const {
    return fail_at(current().line, "expected {}, found {}", what, describe(current()));
  }

  Status expect_symbol(std::string_view symbol) {
    if (!skip_symbol(symbol)) return expected(fmt::format("'{}'", symbol));
    return {};
  }

  Status expect_name(std::string_view name) {
    if (!skip_name(name)) return expected(fmt::format("'{}'", name));
    return {};
  }

  Status expect(TokenKind kind, std::string_view what) {
    if (!at(kind)) return expected(what);
    advance();
    return {};
  }

  Result<std::string> identifier() {
    if (!at(TokenKind::name)) return expected("a name");
    std::string name = current().text;
    advance();
    return name;
  }

 private:
  std::vector<Token> tokens_;  // the last one is `end`
  size_t pos_ = 0;
};

}  // namespace quern::jinja
