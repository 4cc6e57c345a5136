// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/parser.h"

#include "quern/chat/jinja/expression_parser.h"
#include "quern/chat/jinja/lexer.h"

namespace quern::jinja {
namespace {

/// Reads statements.
class Parser : private ExpressionParser {
 public:
  explicit Parser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

  Result<Template> run() {
    QUERN_TRY(result_.body, statements({}));
    return std::move(result_);
  }

 private:
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

  int loops_ = 0;  ///< loops around the current statement that `break` can leave
};

}  // namespace

Result<Template> parse(std::string_view source) {
  QUERN_TRY(std::vector<Token> tokens, lex(source));
  return Parser(std::move(tokens)).run();
}

}  // namespace quern::jinja
