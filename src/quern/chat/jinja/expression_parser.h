// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "quern/chat/jinja/ast.h"
#include "quern/chat/jinja/parser.h"
#include "quern/chat/jinja/token_cursor.h"

namespace quern::jinja {

/// What may stand in a tuple without parentheses, and what ends it.
struct TupleRule {
  bool conditions = true;   ///< `a if b`
  bool attributes = false;  ///< target only: namespace.attribute
  bool in_parentheses = false;
  std::string_view end_name = {};
};

/// The part of the parser that reads expressions and targets of assignments, and builds nodes of bounded height.
class ExpressionParser : protected TokenCursor {
 protected:
  using TokenCursor::TokenCursor;

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

  // Targets of assignments.

  Result<std::string> assignable_name();
  Result<ExprPtr> target(TupleRule rule);
  Result<ExprPtr> one_target(const TupleRule& rule);

  // Expressions, from the loosest binding to the tightest.

  bool tuple_ends(const TupleRule& rule) const;
  Result<ExprPtr> tuple_or_one(TupleRule rule = {});
  Result<ExprPtr> expression();

  using Rule = Result<ExprPtr> (ExpressionParser::*)();
  /// operand (word operand)*
  Result<ExprPtr> word_chain(ExprKind kind, std::string_view word, Rule operand);
  Result<ExprPtr> either();
  Result<ExprPtr> both();
  Result<ExprPtr> negation();
  std::optional<CompareOp> skip_compare_op();
  Result<ExprPtr> compare();

  using Ops = std::initializer_list<std::pair<std::string_view, BinaryOp>>;
  /// operand (op operand)*, kept as one node: a sum of a thousand strings is not a thousand levels deep.
  Result<ExprPtr> arithmetic(Ops ops, Rule operand);
  Result<ExprPtr> sum();
  Result<ExprPtr> concat();
  Result<ExprPtr> product();
  Result<ExprPtr> power();
  Result<ExprPtr> unary_with_filters();
  Result<ExprPtr> unary(bool with_filters);
  Result<ExprPtr> primary();
  Result<ExprPtr> name_or_literal();
  Result<ExprPtr> list_display();
  Result<ExprPtr> dict_display();
  Result<ExprPtr> postfix(ExprPtr e);
  Result<ExprPtr> filters_and_tests(ExprPtr e);
  Result<ExprPtr> attribute(ExprPtr object);
  Result<ExprPtr> subscript(ExprPtr object);
  Result<ExprPtr> slice(ExprPtr object, ExprPtr start, int line);
  Result<ExprPtr> call(ExprPtr callee);
  Status call_arguments(Expr& e);
  Result<std::string> dotted_name();
  /// Behind the bar.
  Result<ExprPtr> filter(ExprPtr input);
  bool starts_test_argument() const;
  Result<ExprPtr> test(ExprPtr subject);

  Template result_;  ///< grows its constants while expressions are read
  int depth_ = 0;    ///< of the rules that recurse
};

}  // namespace quern::jinja
