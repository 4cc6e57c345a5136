// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/parser.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <initializer_list>

#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/lexer.h"

namespace quern::jinja {
namespace {

using Names = std::initializer_list<std::string_view>;

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

/// What may stand in a tuple without parentheses, and what ends it.
struct TupleRule {
  bool conditions = true;   ///< `a if b`
  bool attributes = false;  ///< target only: namespace.attribute
  bool in_parentheses = false;
  std::string_view end_name = {};
};

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Result<Template> run() {
    QUERN_TRY(result_.body, statements({}));
    return std::move(result_);
  }

 private:
  // Tokens.

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

  // Nodes.

  ExprPtr node(ExprKind kind, int line) const {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->line = line;
    return e;
  }

  /// Children know their height when they are added; a tree too high is refused where it grows.
  Status adopt(Expr& parent, ExprPtr child) const {
    if (child) QUERN_TRY_STATUS(grow(parent, *child));
    parent.operands.push_back(std::move(child));
    return {};
  }
  Status grow(Expr& parent, const Expr& child) const {
    parent.height = std::max(parent.height, child.height + 1);
    if (parent.height > kMaxTreeHeight) return fail_at(parent.line, "nested deeper than {}", kMaxTreeHeight);
    return {};
  }

  ExprPtr constant(Constant value, int line) {
    ExprPtr e = node(ExprKind::constant, line);
    e->constant = static_cast<int>(result_.constants.size());
    result_.constants.push_back(std::move(value));
    return e;
  }

  std::unique_ptr<Stmt> statement_node(StmtKind kind, int line) const {
    auto s = std::make_unique<Stmt>();
    s->kind = kind;
    s->line = line;
    return s;
  }

  /// Counts how deep the parser stands; every recursive rule passes through one.
  struct Level {
    explicit Level(int& d) : depth(d) { ++depth; }
    ~Level() { --depth; }
    int& depth;
  };
  Status check_depth() const {
    if (depth_ > kMaxTreeHeight) return fail_at(current().line, "nested deeper than {}", kMaxTreeHeight);
    return {};
  }

  // Statements.

  /// Up to a block tag named in `ends`, which becomes the current token; with no ends, the whole template.
  Result<Body> statements(Names ends) {
    Level level(depth_);
    QUERN_TRY_STATUS(check_depth());
    Body body;
    while (true) {
      const Token& token = current();
      if (token.kind == TokenKind::end) {
        if (ends.size() == 0) return body;
        return fail_at(token.line, "Unexpected end of template; expected '{}'", *(ends.end() - 1));
      }
      if (token.kind == TokenKind::data) {
        auto s = statement_node(StmtKind::text, token.line);
        s->constant = static_cast<int>(result_.constants.size());
        result_.constants.push_back({.type = Constant::Type::string, .text = token.text});
        body.push_back(std::move(s));
        advance();
      } else if (token.kind == TokenKind::variable_begin) {
        auto s = statement_node(StmtKind::print, token.line);
        advance();
        QUERN_TRY(s->value, tuple_or_one());
        QUERN_TRY_STATUS(expect(TokenKind::variable_end, "end of print statement"));
        body.push_back(std::move(s));
      } else {
        advance();
        if (at_any(ends)) return body;
        QUERN_TRY(auto s, statement());
        body.push_back(std::move(s));
        QUERN_TRY_STATUS(expect(TokenKind::block_end, "end of statement block"));
      }
    }
  }

  /// The body behind a block tag: `%} ... {% end`; the end's name is the current token after it.
  Result<Body> block_body(Names ends) {
    skip_symbol(":");
    QUERN_TRY_STATUS(expect(TokenKind::block_end, "end of statement block"));
    return statements(ends);
  }
  Result<Body> closed_body(std::string_view end) {
    QUERN_TRY(Body body, block_body({end}));
    advance();
    return body;
  }

  Result<std::unique_ptr<Stmt>> statement() {
    using StatementRule = Result<std::unique_ptr<Stmt>> (Parser::*)(int line);
    static constexpr std::pair<std::string_view, StatementRule> kRules[] = {
        {"if", &Parser::if_statement},       {"for", &Parser::for_statement},
        {"set", &Parser::set_statement},     {"macro", &Parser::macro_statement},
        {"call", &Parser::call_statement},   {"filter", &Parser::filter_statement},
        {"with", &Parser::with_statement},   {"generation", &Parser::generation},
        {"break", &Parser::break_statement}, {"continue", &Parser::continue_statement}};
    static constexpr std::string_view kRefused[] = {"include", "import", "from", "extends", "block", "autoescape"};
    if (!at(TokenKind::name)) return expected("a tag name");
    const Token token = current();
    for (const auto& [name, rule] : kRules)
      if (token.text == name) return advance(), (this->*rule)(token.line);
    for (const std::string_view name : kRefused)
      if (token.text == name) return fail_at(token.line, "the tag '{}' is not supported in chat templates", name);
    return fail_at(token.line, "Encountered unknown tag '{}'.", token.text);
  }

  Result<std::unique_ptr<Stmt>> if_statement(int line) {
    auto s = statement_node(StmtKind::if_, line);
    while (true) {
      Branch branch;
      QUERN_TRY(branch.test, tuple_or_one({.conditions = false}));
      QUERN_TRY(branch.body, block_body({"elif", "else", "endif"}));
      s->branches.push_back(std::move(branch));
      if (skip_name("elif")) continue;
      if (skip_name("else")) {
        Branch otherwise;
        QUERN_TRY(otherwise.body, closed_body("endif"));
        s->branches.push_back(std::move(otherwise));
      } else {
        advance();
      }
      return s;
    }
  }

  Result<std::unique_ptr<Stmt>> for_statement(int line) {
    auto s = statement_node(StmtKind::for_, line);
    QUERN_TRY(s->target, target({.end_name = "in"}));
    QUERN_TRY_STATUS(expect_name("in"));
    QUERN_TRY(s->value, tuple_or_one({.conditions = false, .end_name = "recursive"}));
    if (skip_name("if")) {
      QUERN_TRY(s->test, expression());
    }
    s->recursive = skip_name("recursive");
    ++loops_;
    QUERN_TRY(s->body, block_body({"endfor", "else"}));
    --loops_;
    if (skip_name("else")) {
      QUERN_TRY(s->otherwise, closed_body("endfor"));
    } else {
      advance();
    }
    return s;
  }

  Result<std::unique_ptr<Stmt>> set_statement(int line) {
    QUERN_TRY(ExprPtr into, target({.attributes = true}));
    if (skip_symbol("=")) {
      auto s = statement_node(StmtKind::set, line);
      s->target = std::move(into);
      QUERN_TRY(s->value, tuple_or_one());
      return s;
    }
    auto s = statement_node(StmtKind::set_block, line);
    s->target = std::move(into);
    while (skip_symbol("|")) {
      QUERN_TRY(s->value, filter(std::move(s->value)));
    }
    QUERN_TRY(s->body, closed_body("endset"));
    return s;
  }

  Result<std::unique_ptr<MacroCode>> code_body(std::unique_ptr<MacroCode> code, std::string_view end) {
    const int outer_loops = std::exchange(loops_, 0);
    QUERN_TRY(code->body, closed_body(end));
    loops_ = outer_loops;
    return code;
  }

  Result<std::unique_ptr<Stmt>> macro_statement(int line) {
    auto s = statement_node(StmtKind::macro, line);
    auto code = std::make_unique<MacroCode>();
    QUERN_TRY(code->name, assignable_name());
    QUERN_TRY_STATUS(signature(*code));
    QUERN_TRY(s->code, code_body(std::move(code), "endmacro"));
    return s;
  }

  Result<std::unique_ptr<Stmt>> call_statement(int line) {
    auto s = statement_node(StmtKind::call_block, line);
    auto code = std::make_unique<MacroCode>();
    code->name = "caller";
    if (at_symbol("(")) QUERN_TRY_STATUS(signature(*code));
    QUERN_TRY(s->value, expression());
    if (s->value->kind != ExprKind::call) return fail_at(line, "expected call");
    QUERN_TRY(s->code, code_body(std::move(code), "endcall"));
    return s;
  }

  Status signature(MacroCode& code) {
    QUERN_TRY_STATUS(expect_symbol("("));
    while (!at_symbol(")")) {
      if (!code.parameters.empty()) QUERN_TRY_STATUS(expect_symbol(","));
      Parameter parameter;
      const int line = current().line;
      QUERN_TRY(parameter.name, assignable_name());
      for (const Parameter& other : code.parameters)
        if (other.name == parameter.name) return fail_at(line, "two parameters named '{}'", parameter.name);
      if (skip_symbol("=")) {
        QUERN_TRY(parameter.default_value, expression());
      } else if (!code.parameters.empty() && code.parameters.back().default_value) {
        return fail_at(line, "non-default argument follows default argument");
      }
      code.parameters.push_back(std::move(parameter));
    }
    return expect_symbol(")");
  }

  Result<std::unique_ptr<Stmt>> filter_statement(int line) {
    auto s = statement_node(StmtKind::filter_block, line);
    do {
      QUERN_TRY(s->value, filter(std::move(s->value)));
    } while (skip_symbol("|"));
    QUERN_TRY(s->body, closed_body("endfilter"));
    return s;
  }

  Result<std::unique_ptr<Stmt>> with_statement(int line) {
    auto s = statement_node(StmtKind::with, line);
    while (!at(TokenKind::block_end)) {
      if (!s->bindings.empty()) QUERN_TRY_STATUS(expect_symbol(","));
      QUERN_TRY(ExprPtr name, target({}));
      QUERN_TRY_STATUS(expect_symbol("="));
      QUERN_TRY(ExprPtr value, expression());
      s->bindings.emplace_back(std::move(name), std::move(value));
    }
    QUERN_TRY(s->body, closed_body("endwith"));
    return s;
  }

  /// Hugging Face's mark for training masks: only a scope of its own here.
  Result<std::unique_ptr<Stmt>> generation(int line) {
    auto s = statement_node(StmtKind::with, line);
    const int outer_loops = std::exchange(loops_, 0);
    QUERN_TRY(s->body, closed_body("endgeneration"));
    loops_ = outer_loops;
    return s;
  }

  Result<std::unique_ptr<Stmt>> loop_control(StmtKind kind, std::string_view name, int line) {
    if (loops_ == 0) return fail_at(line, "'{}' outside loop", name);
    return statement_node(kind, line);
  }
  Result<std::unique_ptr<Stmt>> break_statement(int line) { return loop_control(StmtKind::break_, "break", line); }
  Result<std::unique_ptr<Stmt>> continue_statement(int line) {
    return loop_control(StmtKind::continue_, "continue", line);
  }

  // Targets of assignments.

  Result<std::string> assignable_name() {
    const int line = current().line;
    QUERN_TRY(std::string name, identifier());
    if (name == "true" || name == "false" || name == "none" || name == "True" || name == "False" || name == "None")
      return fail_at(line, "can't assign to '{}'", name);
    return name;
  }

  Result<ExprPtr> target(TupleRule rule) {
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

  Result<ExprPtr> one_target(const TupleRule& rule) {
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

  bool tuple_ends(const TupleRule& rule) const {
    return at(TokenKind::variable_end) || at(TokenKind::block_end) || at_symbol(")") ||
           (!rule.end_name.empty() && at_name(rule.end_name));
  }

  Result<ExprPtr> tuple_or_one(TupleRule rule = {}) {
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

  Result<ExprPtr> expression() {
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

  using Rule = Result<ExprPtr> (Parser::*)();

  /// operand (word operand)*
  Result<ExprPtr> word_chain(ExprKind kind, std::string_view word, Rule operand) {
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

  Result<ExprPtr> either() { return word_chain(ExprKind::either, "or", &Parser::both); }
  Result<ExprPtr> both() { return word_chain(ExprKind::both, "and", &Parser::negation); }

  Result<ExprPtr> negation() {
    if (!at_name("not")) return compare();
    Level level(depth_);
    QUERN_TRY_STATUS(check_depth());
    ExprPtr e = node(ExprKind::negation, current().line);
    advance();
    QUERN_TRY(ExprPtr operand, negation());
    QUERN_TRY_STATUS(adopt(*e, std::move(operand)));
    return e;
  }

  std::optional<CompareOp> skip_compare_op() {
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

  Result<ExprPtr> compare() {
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

  using Ops = std::initializer_list<std::pair<std::string_view, BinaryOp>>;

  /// operand (op operand)*, kept as one node: a sum of a thousand strings is not a thousand levels deep.
  Result<ExprPtr> arithmetic(Ops ops, Rule operand) {
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

  Result<ExprPtr> sum() { return arithmetic({{"+", BinaryOp::add}, {"-", BinaryOp::subtract}}, &Parser::concat); }

  Result<ExprPtr> concat() {
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

  Result<ExprPtr> product() {
    return arithmetic(
        {{"*", BinaryOp::multiply}, {"/", BinaryOp::divide}, {"//", BinaryOp::floor_divide}, {"%", BinaryOp::modulo}},
        &Parser::power);
  }
  Result<ExprPtr> power() { return arithmetic({{"**", BinaryOp::power}}, &Parser::unary_with_filters); }
  Result<ExprPtr> unary_with_filters() { return unary(true); }

  Result<ExprPtr> unary(bool with_filters) {
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

  Result<ExprPtr> primary() {
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

  Result<ExprPtr> name_or_literal() {
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

  Result<ExprPtr> list_display() {
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

  Result<ExprPtr> dict_display() {
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

  Result<ExprPtr> postfix(ExprPtr e) {
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

  Result<ExprPtr> filters_and_tests(ExprPtr e) {
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

  Result<ExprPtr> attribute(ExprPtr object) {
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

  Result<ExprPtr> subscript(ExprPtr object) {
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

  Result<ExprPtr> slice(ExprPtr object, ExprPtr start, int line) {
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

  Result<ExprPtr> call(ExprPtr callee) {
    ExprPtr e = node(ExprKind::call, current().line);
    QUERN_TRY_STATUS(adopt(*e, std::move(callee)));
    QUERN_TRY_STATUS(call_arguments(*e));
    return e;
  }

  Status call_arguments(Expr& e) {
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

  Result<std::string> dotted_name() {
    QUERN_TRY(std::string name, identifier());
    while (skip_symbol(".")) {
      QUERN_TRY(const std::string part, identifier());
      name += "." + part;
    }
    return name;
  }

  /// Behind the bar.
  Result<ExprPtr> filter(ExprPtr input) {
    ExprPtr e = node(ExprKind::filter, current().line);
    QUERN_TRY(e->name, dotted_name());
    e->builtin = find_filter(e->name);
    QUERN_TRY_STATUS(adopt(*e, std::move(input)));
    if (at_symbol("(")) QUERN_TRY_STATUS(call_arguments(*e));
    return e;
  }

  bool starts_test_argument() const {
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

  Result<ExprPtr> test(ExprPtr subject) {
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

  std::vector<Token> tokens_;
  size_t pos_ = 0;
  int depth_ = 0;
  int loops_ = 0;  ///< loops around the current statement that `break` can leave
  Template result_;
};

}  // namespace

Result<Template> parse(std::string_view source) {
  QUERN_TRY(std::vector<Token> tokens, lex(source));
  return Parser(std::move(tokens)).run();
}

}  // namespace quern::jinja
