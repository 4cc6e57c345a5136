// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/expression_parser.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "quern/chat/jinja/builtins.h"

namespace quern::jinja {
namespace {

/// Hexadecimal, octal and binary literals beyond 64 bits are refused; decimal ones keep their digits.
Result<Constant> integer_constant(std::string_view digits) {
  int base = 10;
  std::string_view rest = digits;
  if (digits.size() > 2 && digits[0] == '0') {
    const char letter = static_cast<char>(digits[1] | 0x20);
    base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
    if (base != 10) rest.remove_prefix(2);
  }
  Constant constant{.type = Constant::Type::integer};
  const auto [end, status] = std::from_chars(rest.data(), rest.data() + rest.size(), constant.integer, base);
  if (status == std::errc()) return constant;
  if (base != 10) return make_error(ErrorCode::invalid_argument, "the number {} needs more than 64 bits", digits);
  return Constant{.type = Constant::Type::big_integer, .text = std::string(digits)};
}

}  // namespace

// Targets of assignments.

Result<std::string> ExpressionParser::assignable_name() {
  const int line = current().line;
  QUERN_TRY(std::string name, identifier());
  if (name == "true" || name == "false" || name == "none" || name == "True" || name == "False" || name == "None")
    return fail_at(line, "can't assign to '{}'", name);
  return name;
}

Result<ExprPtr> ExpressionParser::target(TupleRule rule) {
  Level level(depth_);
  QUERN_TRY_STATUS(check_depth());
  const int line = current().line;
  ExprPtr list = node(ExprKind::tuple, line);
  bool is_tuple = false;
  while (true) {
    if (!list->operands.empty()) QUERN_TRY_STATUS(expect_symbol(","));
    if (tuple_ends(rule)) break;
    QUERN_TRY(ExprPtr one, one_target(rule));
    QUERN_TRY_STATUS(adopt(*list, std::move(one)));
    if (!at_symbol(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return list;
  if (list->operands.empty()) {
    if (rule.in_parentheses) return list;
    return expected("a name to assign to");
  }
  return std::move(list->operands.front());
}

Result<ExprPtr> ExpressionParser::one_target(const TupleRule& rule) {
  const int line = current().line;
  if (skip_symbol("(")) {
    QUERN_TRY(ExprPtr inner, target({.in_parentheses = true}));
    QUERN_TRY_STATUS(expect_symbol(")"));
    return inner;
  }
  if (!at(TokenKind::name)) return fail_at(line, "can't assign to {}", describe(current()));
  ExprPtr e = node(ExprKind::name, line);
  QUERN_TRY(e->name, assignable_name());
  if (rule.attributes && skip_symbol(".")) {
    e->kind = ExprKind::attribute_target;
    QUERN_TRY(e->attribute, identifier());
  }
  return e;
}

// Expressions, from the loosest binding to the tightest.

bool ExpressionParser::tuple_ends(const TupleRule& rule) const {
  return at(TokenKind::variable_end) || at(TokenKind::block_end) || at_symbol(")") ||
         (!rule.end_name.empty() && at_name(rule.end_name));
}

Result<ExprPtr> ExpressionParser::tuple_or_one(TupleRule rule) {
  ExprPtr list = node(ExprKind::tuple, current().line);
  bool is_tuple = false;
  while (true) {
    if (!list->operands.empty()) QUERN_TRY_STATUS(expect_symbol(","));
    if (tuple_ends(rule)) break;
    QUERN_TRY(ExprPtr item, rule.conditions ? expression() : either());
    QUERN_TRY_STATUS(adopt(*list, std::move(item)));
    if (!at_symbol(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return list;
  if (!list->operands.empty()) return std::move(list->operands.front());
  if (!rule.in_parentheses) return expected("an expression");
  return list;
}

Result<ExprPtr> ExpressionParser::expression() {
  Level level(depth_);
  QUERN_TRY_STATUS(check_depth());
  QUERN_TRY(ExprPtr value, either());
  while (at_name("if")) {
    ExprPtr condition = node(ExprKind::condition, current().line);
    advance();
    QUERN_TRY(ExprPtr test, either());
    QUERN_TRY_STATUS(adopt(*condition, std::move(test)));
    QUERN_TRY_STATUS(adopt(*condition, std::move(value)));
    if (skip_name("else")) {
      QUERN_TRY(ExprPtr otherwise, expression());
      QUERN_TRY_STATUS(adopt(*condition, std::move(otherwise)));
    }
    value = std::move(condition);
  }
  return value;
}

Result<ExprPtr> ExpressionParser::word_chain(ExprKind kind, std::string_view word, Rule operand) {
  QUERN_TRY(ExprPtr first, (this->*operand)());
  if (!at_name(word)) return first;
  ExprPtr chain = node(kind, current().line);
  QUERN_TRY_STATUS(adopt(*chain, std::move(first)));
  while (skip_name(word)) {
    QUERN_TRY(ExprPtr next, (this->*operand)());
    QUERN_TRY_STATUS(adopt(*chain, std::move(next)));
  }
  return chain;
}

Result<ExprPtr> ExpressionParser::either() { return word_chain(ExprKind::either, "or", &ExpressionParser::both); }

Result<ExprPtr> ExpressionParser::both() { return word_chain(ExprKind::both, "and", &ExpressionParser::negation); }

Result<ExprPtr> ExpressionParser::negation() {
  if (!at_name("not")) return compare();
  Level level(depth_);
  QUERN_TRY_STATUS(check_depth());
  ExprPtr e = node(ExprKind::negation, current().line);
  advance();
  QUERN_TRY(ExprPtr operand, negation());
  QUERN_TRY_STATUS(adopt(*e, std::move(operand)));
  return e;
}

std::optional<CompareOp> ExpressionParser::skip_compare_op() {
  static constexpr std::pair<std::string_view, CompareOp> kOps[] = {
      {"==", CompareOp::equal},      {"!=", CompareOp::not_equal}, {"<", CompareOp::less},
      {"<=", CompareOp::less_equal}, {">", CompareOp::greater},    {">=", CompareOp::greater_equal}};
  for (const auto& [symbol, op] : kOps)
    if (skip_symbol(symbol)) return op;
  if (skip_name("in")) return CompareOp::in;
  if (at_name("not") && look().kind == TokenKind::name && look().text == "in")
    return advance(), advance(), CompareOp::not_in;
  return std::nullopt;
}

Result<ExprPtr> ExpressionParser::compare() {
  QUERN_TRY(ExprPtr first, sum());
  std::optional<CompareOp> op = skip_compare_op();
  if (!op) return first;
  ExprPtr chain = node(ExprKind::compare, first->line);
  QUERN_TRY_STATUS(adopt(*chain, std::move(first)));
  for (; op; op = skip_compare_op()) {
    chain->compare_ops.push_back(*op);
    QUERN_TRY(ExprPtr next, sum());
    QUERN_TRY_STATUS(adopt(*chain, std::move(next)));
  }
  return chain;
}

Result<ExprPtr> ExpressionParser::arithmetic(Ops ops, Rule operand) {
  const auto skip_op = [&]() -> std::optional<BinaryOp> {
    for (const auto& [symbol, op] : ops)
      if (skip_symbol(symbol)) return op;
    return std::nullopt;
  };
  QUERN_TRY(ExprPtr first, (this->*operand)());
  std::optional<BinaryOp> op = skip_op();
  if (!op) return first;
  ExprPtr chain = node(ExprKind::arithmetic, first->line);
  QUERN_TRY_STATUS(adopt(*chain, std::move(first)));
  for (; op; op = skip_op()) {
    chain->binary_ops.push_back(*op);
    QUERN_TRY(ExprPtr next, (this->*operand)());
    QUERN_TRY_STATUS(adopt(*chain, std::move(next)));
  }
  return chain;
}

Result<ExprPtr> ExpressionParser::sum() {
  return arithmetic({{"+", BinaryOp::add}, {"-", BinaryOp::subtract}}, &ExpressionParser::concat);
}

Result<ExprPtr> ExpressionParser::concat() {
  QUERN_TRY(ExprPtr first, product());
  if (!at_symbol("~")) return first;
  ExprPtr chain = node(ExprKind::concat, current().line);
  QUERN_TRY_STATUS(adopt(*chain, std::move(first)));
  while (skip_symbol("~")) {
    QUERN_TRY(ExprPtr next, product());
    QUERN_TRY_STATUS(adopt(*chain, std::move(next)));
  }
  return chain;
}

Result<ExprPtr> ExpressionParser::product() {
  return arithmetic(
      {{"*", BinaryOp::multiply}, {"/", BinaryOp::divide}, {"//", BinaryOp::floor_divide}, {"%", BinaryOp::modulo}},
      &ExpressionParser::power);
}

Result<ExprPtr> ExpressionParser::power() {
  return arithmetic({{"**", BinaryOp::power}}, &ExpressionParser::unary_with_filters);
}

Result<ExprPtr> ExpressionParser::unary_with_filters() { return unary(true); }

Result<ExprPtr> ExpressionParser::unary(bool with_filters) {
  Level level(depth_);
  QUERN_TRY_STATUS(check_depth());
  ExprPtr e;
  if (at_symbol("-") || at_symbol("+")) {
    e = node(at_symbol("-") ? ExprKind::minus : ExprKind::plus, current().line);
    advance();
    QUERN_TRY(ExprPtr operand, unary(false));
    QUERN_TRY_STATUS(adopt(*e, std::move(operand)));
  } else {
    QUERN_TRY(e, primary());
  }
  QUERN_TRY(e, postfix(std::move(e)));
  if (!with_filters) return e;
  return filters_and_tests(std::move(e));
}

Result<ExprPtr> ExpressionParser::primary() {
  const Token& token = current();
  switch (token.kind) {
    case TokenKind::name:
      return name_or_literal();
    case TokenKind::string: {
      Constant text{.type = Constant::Type::string};
      const int line = token.line;
      for (; at(TokenKind::string); advance()) text.text += current().text;
      return constant(std::move(text), line);
    }
    case TokenKind::integer: {
      Result<Constant> value = integer_constant(token.text);
      if (!value) return fail_at(token.line, "{}", value.error().message);
      advance();
      return constant(*std::move(value), token.line);
    }
    case TokenKind::floating: {
      const double value = std::strtod(token.text.c_str(), nullptr);
      advance();
      return constant({.type = Constant::Type::floating, .floating = value}, token.line);
    }
    default:
      break;
  }
  if (skip_symbol("(")) {
    QUERN_TRY(ExprPtr inner, tuple_or_one({.in_parentheses = true}));
    QUERN_TRY_STATUS(expect_symbol(")"));
    return inner;
  }
  if (at_symbol("[")) return list_display();
  if (at_symbol("{")) return dict_display();
  return expected("an expression");
}

Result<ExprPtr> ExpressionParser::name_or_literal() {
  const Token& token = current();
  advance();
  if (token.text == "true" || token.text == "True")
    return constant({.type = Constant::Type::boolean, .boolean = true}, token.line);
  if (token.text == "false" || token.text == "False") return constant({.type = Constant::Type::boolean}, token.line);
  if (token.text == "none" || token.text == "None") return constant({}, token.line);
  ExprPtr e = node(ExprKind::name, token.line);
  e->name = token.text;
  return e;
}

Result<ExprPtr> ExpressionParser::list_display() {
  ExprPtr list = node(ExprKind::list, current().line);
  advance();
  while (!at_symbol("]")) {
    if (!list->operands.empty()) QUERN_TRY_STATUS(expect_symbol(","));
    if (at_symbol("]")) break;
    QUERN_TRY(ExprPtr item, expression());
    QUERN_TRY_STATUS(adopt(*list, std::move(item)));
  }
  QUERN_TRY_STATUS(expect_symbol("]"));
  return list;
}

Result<ExprPtr> ExpressionParser::dict_display() {
  ExprPtr dict = node(ExprKind::dict, current().line);
  advance();
  while (!at_symbol("}")) {
    if (!dict->operands.empty()) QUERN_TRY_STATUS(expect_symbol(","));
    if (at_symbol("}")) break;
    QUERN_TRY(ExprPtr key, expression());
    QUERN_TRY_STATUS(adopt(*dict, std::move(key)));
    QUERN_TRY_STATUS(expect_symbol(":"));
    QUERN_TRY(ExprPtr value, expression());
    QUERN_TRY_STATUS(adopt(*dict, std::move(value)));
  }
  QUERN_TRY_STATUS(expect_symbol("}"));
  return dict;
}

Result<ExprPtr> ExpressionParser::postfix(ExprPtr e) {
  while (true) {
    if (at_symbol(".")) {
      QUERN_TRY(e, attribute(std::move(e)));
    } else if (at_symbol("[")) {
      QUERN_TRY(e, subscript(std::move(e)));
    } else if (at_symbol("(")) {
      QUERN_TRY(e, call(std::move(e)));
    } else {
      return e;
    }
  }
}

Result<ExprPtr> ExpressionParser::filters_and_tests(ExprPtr e) {
  while (true) {
    if (skip_symbol("|")) {
      QUERN_TRY(e, filter(std::move(e)));
    } else if (at_name("is")) {
      QUERN_TRY(e, test(std::move(e)));
    } else if (at_symbol("(")) {
      QUERN_TRY(e, call(std::move(e)));
    } else {
      return e;
    }
  }
}

Result<ExprPtr> ExpressionParser::attribute(ExprPtr object) {
  const int line = current().line;
  advance();
  if (at(TokenKind::integer)) {
    ExprPtr e = node(ExprKind::item, line);
    QUERN_TRY_STATUS(adopt(*e, std::move(object)));
    QUERN_TRY(ExprPtr index, primary());
    QUERN_TRY_STATUS(adopt(*e, std::move(index)));
    return e;
  }
  if (!at(TokenKind::name)) return expected("name or number");
  ExprPtr e = node(ExprKind::attribute, line);
  e->name = current().text;
  advance();
  QUERN_TRY_STATUS(adopt(*e, std::move(object)));
  return e;
}

Result<ExprPtr> ExpressionParser::subscript(ExprPtr object) {
  const int line = current().line;
  advance();
  if (at_symbol("]")) {  // x[] is x[()]
    advance();
    ExprPtr e = node(ExprKind::item, line);
    QUERN_TRY_STATUS(adopt(*e, std::move(object)));
    QUERN_TRY_STATUS(adopt(*e, node(ExprKind::tuple, line)));
    return e;
  }
  ExprPtr start, key;
  if (!at_symbol(":")) {
    QUERN_TRY(key, expression());
  }
  if (at_symbol(":")) return slice(std::move(object), std::move(key), line);
  if (at_symbol(",")) {
    ExprPtr tuple = node(ExprKind::tuple, line);
    QUERN_TRY_STATUS(adopt(*tuple, std::move(key)));
    while (skip_symbol(",")) {
      QUERN_TRY(ExprPtr next, expression());
      QUERN_TRY_STATUS(adopt(*tuple, std::move(next)));
    }
    key = std::move(tuple);
  }
  QUERN_TRY_STATUS(expect_symbol("]"));
  ExprPtr e = node(ExprKind::item, line);
  QUERN_TRY_STATUS(adopt(*e, std::move(object)));
  QUERN_TRY_STATUS(adopt(*e, std::move(key)));
  return e;
}

Result<ExprPtr> ExpressionParser::slice(ExprPtr object, ExprPtr start, int line) {
  ExprPtr e = node(ExprKind::slice, line);
  QUERN_TRY_STATUS(adopt(*e, std::move(object)));
  QUERN_TRY_STATUS(adopt(*e, std::move(start)));
  for (int part = 0; part < 2; ++part) {
    ExprPtr bound;
    if (skip_symbol(":") && !at_symbol(":") && !at_symbol("]")) {
      QUERN_TRY(bound, expression());
    }
    QUERN_TRY_STATUS(adopt(*e, std::move(bound)));
  }
  QUERN_TRY_STATUS(expect_symbol("]"));
  return e;
}

Result<ExprPtr> ExpressionParser::call(ExprPtr callee) {
  ExprPtr e = node(ExprKind::call, current().line);
  QUERN_TRY_STATUS(adopt(*e, std::move(callee)));
  QUERN_TRY_STATUS(call_arguments(*e));
  return e;
}

Status ExpressionParser::call_arguments(Expr& e) {
  using Form = Argument::Form;
  const auto has = [&](Form form) {
    return std::any_of(e.arguments.begin(), e.arguments.end(), [&](const Argument& a) { return a.form == form; });
  };
  QUERN_TRY_STATUS(expect_symbol("("));
  while (!at_symbol(")")) {
    if (!e.arguments.empty()) QUERN_TRY_STATUS(expect_symbol(","));
    if (at_symbol(")")) break;
    Argument argument{Form::positional, {}, {}};
    if (skip_symbol("*"))
      argument.form = Form::star;
    else if (skip_symbol("**"))
      argument.form = Form::double_star;
    else if (at(TokenKind::name) && look().kind == TokenKind::symbol && look().text == "=") {
      argument.form = Form::named;
      argument.name = current().text;
      advance(), advance();
    }
    const bool bad_order = has(Form::double_star) || (argument.form == Form::star && has(Form::star)) ||
                           (argument.form == Form::positional && (has(Form::star) || has(Form::named)));
    if (bad_order) return fail_at(e.line, "invalid syntax for function call expression");
    QUERN_TRY(argument.value, expression());
    QUERN_TRY_STATUS(grow(e, *argument.value));
    e.arguments.push_back(std::move(argument));
  }
  return expect_symbol(")");
}

Result<std::string> ExpressionParser::dotted_name() {
  QUERN_TRY(std::string name, identifier());
  while (skip_symbol(".")) {
    QUERN_TRY(const std::string part, identifier());
    name += "." + part;
  }
  return name;
}

Result<ExprPtr> ExpressionParser::filter(ExprPtr input) {
  ExprPtr e = node(ExprKind::filter, current().line);
  QUERN_TRY(e->name, dotted_name());
  e->builtin = find_filter(e->name);
  QUERN_TRY_STATUS(adopt(*e, std::move(input)));
  if (at_symbol("(")) QUERN_TRY_STATUS(call_arguments(*e));
  return e;
}

bool ExpressionParser::starts_test_argument() const {
  switch (current().kind) {
    case TokenKind::name:
      return !at_any({"else", "or", "and"});
    case TokenKind::string:
    case TokenKind::integer:
    case TokenKind::floating:
      return true;
    default:
      return at_symbol("[") || at_symbol("{");
  }
}

Result<ExprPtr> ExpressionParser::test(ExprPtr subject) {
  ExprPtr e = node(ExprKind::test, current().line);
  advance();
  const bool negated = skip_name("not");
  QUERN_TRY(e->name, dotted_name());
  e->builtin = find_test(e->name);
  QUERN_TRY_STATUS(adopt(*e, std::move(subject)));
  if (at_symbol("(")) {
    QUERN_TRY_STATUS(call_arguments(*e));
  } else if (starts_test_argument()) {
    if (at_name("is")) return fail_at(current().line, "You cannot chain multiple tests with is");
    QUERN_TRY(ExprPtr argument, primary());
    QUERN_TRY(argument, postfix(std::move(argument)));
    QUERN_TRY_STATUS(grow(*e, *argument));
    e->arguments.push_back({Argument::Form::positional, {}, std::move(argument)});
  }
  if (!negated) return e;
  ExprPtr inverse = node(ExprKind::negation, e->line);
  QUERN_TRY_STATUS(adopt(*inverse, std::move(e)));
  return inverse;
}

}  // namespace quern::jinja
