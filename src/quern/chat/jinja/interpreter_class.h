// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "quern/base/json.h"
#include "quern/chat/jinja/ast.h"
#include "quern/chat/jinja/runtime.h"

namespace quern::jinja {

/// How a statement ended.
enum class Flow : uint8_t { next, break_loop, continue_loop };

class Interpreter;

/// A `for` at work: its items, those its `if` lets pass, and what `loop` shows of it. Refers to the interpreter and the
/// tree, and is used only while they run.
class TemplateLoop : public LoopObject {
 public:
  TemplateLoop(Interpreter& i, const Stmt& s, Value f, Values items)
      : interpreter_(i), stmt_(s), frame_(std::move(f)), source_(std::move(items)) {}

  Result<bool> read_ahead() override;
  /// Goes on to the next item; false at the end.
  Result<bool> advance();
  const Stmt& stmt() const { return stmt_; }
  const Value& frame() const { return frame_; }
  void drop_references() override {
    LoopObject::drop_references();
    source_.clear();
    frame_ = Value();
  }

 private:
  Interpreter& interpreter_;
  const Stmt& stmt_;
  Value frame_;  // the scope around the loop, for its `if`
  Values source_;
  size_t position_ = 0;
};

/// One rendering of one template: statements in interpreter.cpp, expressions in interpreter_expressions.cpp, calls in
/// interpreter_calls.cpp. Values stand in frames, one per scope, at the places that the scope pass chose.
class Interpreter {
 public:
  Interpreter(const Template& tree, Runtime& rt) : tree_(tree), rt_(rt), constants_(tree.constants.size()) {}

  Status load_context(const Json& context, std::span<const std::string_view> user_keys);
  Result<Text> run();
  /// Whether an item passes the `if` of its loop.
  Result<bool> passes(const Stmt& loop, const Value& item, const Value& frame);

 private:
  // Depth: of trees, and of calls of macros and loops.

  struct Level {
    explicit Level(int& d) : depth(d) { ++depth; }
    ~Level() { --depth; }
    int& depth;
  };

  // A macro calling itself passes through some seven levels of its tree each time.
  Status check_depth() {
    if (depth_ > 8 * rt_.limits.max_depth || call_depth_ > rt_.limits.max_depth)
      return template_error("nested or recursive deeper than {}", rt_.limits.max_depth);
    return rt_.spend(1);
  }

  // Variables.

  static Value& slot(const Value& frame, Slot where) {
    const Value* at = &frame;
    for (int i = 0; i < where.hops; ++i) at = &at->as<Frame>().parent;
    return at->as<Frame>().slots[static_cast<size_t>(where.index)];
  }

  Value resolve(const std::string& name);
  Result<Value> open_frame(const ScopeLayout& layout, const Value& outer);
  /// Gives the variables of a scope the values they start with.
  void load_variables(const ScopeLayout& layout, const Value& frame);
  Status assign(const Expr& target, const Value& value, const Value& frame);
  Status assign_attribute(const Expr& target, const Value& value, const Value& frame);
  const Value& constant(int index);

  // Statements.

  Result<Flow> body(const Body& statements, const Value& frame);

  static Result<Flow> done(Status status) {
    if (!status) return std::move(status).error();
    return Flow::next;
  }

  Result<Flow> statement(const Stmt& s, const Value& frame);
  Status check_output();
  Status write(const Value& value);
  Status print(const Stmt& s, const Value& frame);
  Status set(const Stmt& s, const Value& frame);
  /// Runs a body with its output going into `text`.
  Result<Flow> capture(const Body& statements, const Value& frame, Text& text);
  Result<Flow> set_block(const Stmt& s, const Value& frame);
  Result<Flow> filter_block(const Stmt& s, const Value& frame);
  Result<Flow> if_statement(const Stmt& s, const Value& frame);
  Result<Flow> with(const Stmt& s, const Value& frame);
  Result<Flow> for_statement(const Stmt& s, const Value& frame);
  Result<Flow> run_loop(const Stmt& s, const Value& frame, const Value& iterable, int depth0);
  Status call_block(const Stmt& s, const Value& frame);

  // Expressions.

  Result<Value> eval(const Expr& e, const Value& frame);
  Result<Value> eval_name(const Expr& e, const Value& frame);
  Result<Value> eval_items(const Expr& e, const Value& frame);
  Result<Value> eval_dict(const Expr& e, const Value& frame);
  Result<Value> eval_condition(const Expr& e, const Value& frame);
  Result<Value> eval_logic(const Expr& e, const Value& frame);
  Result<Value> eval_not(const Expr& e, const Value& frame);
  Result<Value> eval_compare(const Expr& e, const Value& frame);
  Result<Value> eval_arithmetic(const Expr& e, const Value& frame);
  Result<Value> eval_concat(const Expr& e, const Value& frame);
  Result<Value> eval_sign(const Expr& e, const Value& frame);
  Result<Value> eval_attribute(const Expr& e, const Value& frame);
  Result<Value> eval_item(const Expr& e, const Value& frame);
  Result<Value> eval_slice(const Expr& e, const Value& frame);

  /// What a call passes, `*` and `**` spread.
  struct Arguments {
    Values positional;
    NamedValues named;
  };

  Result<Arguments> eval_arguments(const Expr& e, const Value& frame);
  Status spread_names(const Value& value, NamedValues& named);
  Result<Value> eval_call(const Expr& e, const Value& frame, const Value* caller);
  Result<Value> call(const Value& callee, Arguments arguments);
  Result<Value> call_joiner(JoinerObject& joiner, const Arguments& arguments);
  /// A recursive loop renders itself over other items.
  Result<Value> call_loop(TemplateLoop& loop, const Arguments& arguments);
  Result<Value> call_macro(MacroObject& macro, Arguments arguments);

  static Status done_capture(const Result<Flow>& flow) { return flow ? Status() : Status(flow.error()); }

  static Value take_named(NamedValues& named, std::string_view name);
  Status bind_macro(const MacroCode& code, Arguments arguments, const Value& frame);
  Status fill_defaults(const MacroCode& code, const Value& frame);
  /// A chain of filters; the innermost input is an expression, or the text a block has captured.
  Result<Value> eval_filter(const Expr& e, const Value& frame, const Value* captured);
  Result<Value> eval_test(const Expr& e, const Value& frame);

  const Template& tree_;
  Runtime& rt_;
  std::unordered_map<std::string, Value> context_;
  Values constants_;
  Text* out_ = nullptr;  ///< where statements write
  int depth_ = 0;
  int call_depth_ = 0;
};

}  // namespace quern::jinja
