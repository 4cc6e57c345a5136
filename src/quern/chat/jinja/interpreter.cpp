// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/interpreter.h"

#include <algorithm>
#include <unordered_map>

#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/convert.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"

namespace quern::jinja {
namespace {

/// How a statement ended.
enum class Flow : uint8_t { next, break_loop, continue_loop };

class Interpreter;

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

class Interpreter {
 public:
  Interpreter(const Template& tree, Runtime& rt) : tree_(tree), rt_(rt), constants_(tree.constants.size()) {}

  Status load_context(const Json& context, std::span<const std::string_view> user_keys) {
    if (!context.is_object()) return template_error("the variables must be an object");
    for (const auto& [key, json] : context.object()) {
      const bool user = std::find(user_keys.begin(), user_keys.end(), key) != user_keys.end();
      QUERN_TRY(Value value,
                user && key == "messages" ? messages_from_json(rt_, json) : from_json_value(rt_, json, user));
      context_.insert_or_assign(key, std::move(value));
    }
    return {};
  }

  Result<Text> run() {
    Text out;
    out_ = &out;
    QUERN_TRY(Value frame, open_frame(tree_.scope, Value()));
    if (tree_.self.hops >= 0) slot(frame, tree_.self) = Value(rt_.heap.make<SelfObject>(0));
    QUERN_TRY_STATUS(body(tree_.body, frame));
    return out;
  }

  /// Whether an item passes the `if` of its loop.
  Result<bool> passes(const Stmt& loop, const Value& item, const Value& frame) {
    QUERN_TRY(Value inner, open_frame(loop.test_scope, frame));
    QUERN_TRY_STATUS(assign(*loop.target, item, inner));
    QUERN_TRY(const Value result, eval(*loop.test, inner));
    return truthy(result);
  }

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

  Value resolve(const std::string& name) {
    if (const auto it = context_.find(name); it != context_.end()) return it->second;
    if (const Builtin* function = find_function(name)) return Value(rt_.heap.make<BuiltinObject>(0, *function));
    return Value();
  }

  Result<Value> open_frame(const ScopeLayout& layout, const Value& outer) {
    QUERN_TRY_STATUS(rt_.spend(1));
    Value frame(
        rt_.heap.make<Frame>(static_cast<int64_t>(layout.loads.size() * sizeof(Value)), layout.loads.size(), outer));
    load_variables(layout, frame);
    return frame;
  }

  /// Gives the variables of a scope the values they start with.
  void load_variables(const ScopeLayout& layout, const Value& frame) {
    auto& inner = frame.as<Frame>();
    for (size_t i = 0; i < layout.loads.size(); ++i) {
      const Load& load = layout.loads[i];
      switch (load.from) {
        case Load::From::parameter:
        case Load::From::nothing:
          inner.slots[i] = Value();
          break;
        case Load::From::context:
          inner.slots[i] = resolve(load.name);
          break;
        case Load::From::outer:
          inner.slots[i] = slot(inner.parent, load.outer);
          break;
      }
    }
  }

  Status assign(const Expr& target, const Value& value, const Value& frame) {
    switch (target.kind) {
      case ExprKind::name:
        slot(frame, target.slot) = value;
        return {};
      case ExprKind::attribute_target:
        return assign_attribute(target, value, frame);
      default:
        break;
    }
    QUERN_TRY_STATUS(check_defined(value));
    const Result<Values> items = iterate(rt_, value);
    if (!items) return template_error("cannot unpack non-iterable {} object", type_name(value));
    if (items->size() != target.operands.size())
      return template_error("cannot unpack {} values into {} names", items->size(), target.operands.size());
    for (size_t i = 0; i < items->size(); ++i) QUERN_TRY_STATUS(assign(*target.operands[i], (*items)[i], frame));
    return {};
  }

  Status assign_attribute(const Expr& target, const Value& value, const Value& frame) {
    const Value& object = slot(frame, target.slot);
    if (!object.is(Kind::name_space)) return template_error("cannot assign attribute on non-namespace object");
    if (target.attribute.starts_with('_'))
      return template_error(
          "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '{}'. Please rename the "
          "attribute.",
          target.attribute);
    auto& space = object.as<NamespaceObject>();
    for (auto& [name, old] : space.attributes)
      if (name == target.attribute) return old = value, Status();
    rt_.heap.charge(space, static_cast<int64_t>(sizeof(space.attributes.front()) + target.attribute.size()));
    space.attributes.emplace_back(target.attribute, value);
    return {};
  }

  const Value& constant(int index) {
    Value& value = constants_[static_cast<size_t>(index)];
    if (value.given()) return value;
    const Constant& c = tree_.constants[static_cast<size_t>(index)];
    switch (c.type) {
      case Constant::Type::none:
        value = Value::none();
        break;
      case Constant::Type::boolean:
        value = Value::boolean(c.boolean);
        break;
      case Constant::Type::integer:
        value = Value::integer(c.integer);
        break;
      case Constant::Type::floating:
        value = Value::floating(c.floating);
        break;
      case Constant::Type::big_integer:
        value = Value(rt_.heap.make<BigIntegerObject>(static_cast<int64_t>(c.text.size()), c.text));
        break;
      case Constant::Type::string:
        value = rt_.string(c.text);
        break;
    }
    return value;
  }

  // Statements.

  Result<Flow> body(const Body& statements, const Value& frame) {
    Level level(depth_);
    QUERN_TRY_STATUS(check_depth());
    for (const auto& s : statements) {
      rt_.line = s->line;
      QUERN_TRY(const Flow flow, statement(*s, frame));
      if (flow != Flow::next) return flow;
    }
    return Flow::next;
  }

  static Result<Flow> done(Status status) {
    if (!status) return std::move(status).error();
    return Flow::next;
  }

  Result<Flow> statement(const Stmt& s, const Value& frame) {
    switch (s.kind) {
      case StmtKind::text:
        out_->append(tree_.constants[static_cast<size_t>(s.constant)].text, false);
        return done(check_output());
      case StmtKind::print:
        return done(print(s, frame));
      case StmtKind::set:
        return done(set(s, frame));
      case StmtKind::set_block:
        return set_block(s, frame);
      case StmtKind::if_:
        return if_statement(s, frame);
      case StmtKind::for_:
        return for_statement(s, frame);
      case StmtKind::macro:
        slot(frame, s.slot) = Value(rt_.heap.make<MacroObject>(0, *s.code, frame));
        return Flow::next;
      case StmtKind::call_block:
        return done(call_block(s, frame));
      case StmtKind::filter_block:
        return filter_block(s, frame);
      case StmtKind::with:
        return with(s, frame);
      case StmtKind::break_:
        return Flow::break_loop;
      case StmtKind::continue_:
        return Flow::continue_loop;
    }
    return Flow::next;
  }

  Status check_output() {
    if (static_cast<int64_t>(out_->size()) > rt_.limits.max_output_bytes)
      return template_error("writes more than {} bytes", rt_.limits.max_output_bytes);
    if (static_cast<int64_t>(out_->memory_bytes()) > rt_.limits.max_memory_bytes) return rt_.reserve(-1);
    return rt_.spend(1);
  }

  Status write(const Value& value) {
    QUERN_TRY_STATUS(append_str(rt_, value, *out_));
    return check_output();
  }

  Status print(const Stmt& s, const Value& frame) {
    QUERN_TRY(const Value value, eval(*s.value, frame));
    return write(value);
  }

  Status set(const Stmt& s, const Value& frame) {
    QUERN_TRY(const Value value, eval(*s.value, frame));
    return assign(*s.target, value, frame);
  }

  /// Runs a body with its output going into `text`.
  Result<Flow> capture(const Body& statements, const Value& frame, Text& text) {
    Text* outer = std::exchange(out_, &text);
    Result<Flow> flow = body(statements, frame);
    out_ = outer;
    return flow;
  }

  Result<Flow> set_block(const Stmt& s, const Value& frame) {
    QUERN_TRY(const Value inner, open_frame(s.scope, frame));
    Text text;
    QUERN_TRY(const Flow flow, capture(s.body, inner, text));
    if (flow != Flow::next) return flow;
    Value value = rt_.string(std::move(text));
    if (s.value) {
      QUERN_TRY(value, eval_filter(*s.value, inner, &value));
    }
    return done(assign(*s.target, value, frame));
  }

  Result<Flow> filter_block(const Stmt& s, const Value& frame) {
    QUERN_TRY(const Value inner, open_frame(s.scope, frame));
    Text text;
    QUERN_TRY(const Flow flow, capture(s.body, inner, text));
    if (flow != Flow::next) return flow;
    const Value captured = rt_.string(std::move(text));
    QUERN_TRY(const Value value, eval_filter(*s.value, inner, &captured));
    return done(write(value));
  }

  Result<Flow> if_statement(const Stmt& s, const Value& frame) {
    for (const Branch& branch : s.branches) {
      if (branch.test) {
        QUERN_TRY(const Value test, eval(*branch.test, frame));
        QUERN_TRY(const bool holds, truthy(test));
        if (!holds) continue;
      }
      return body(branch.body, frame);
    }
    return Flow::next;
  }

  Result<Flow> with(const Stmt& s, const Value& frame) {
    QUERN_TRY(const Value inner, open_frame(s.scope, frame));
    for (const auto& [target, expr] : s.bindings) {
      QUERN_TRY(const Value value, eval(*expr, frame));
      QUERN_TRY_STATUS(assign(*target, value, inner));
    }
    return body(s.body, inner);
  }

  Result<Flow> for_statement(const Stmt& s, const Value& frame) {
    QUERN_TRY(const Value iterable, eval(*s.value, frame));
    return run_loop(s, frame, iterable, 0);
  }

  Result<Flow> run_loop(const Stmt& s, const Value& frame, const Value& iterable, int depth0) {
    QUERN_TRY(Values items, iterate(rt_, iterable));
    const auto bytes = static_cast<int64_t>(items.size() * sizeof(Value));
    auto* loop = rt_.heap.make<TemplateLoop>(bytes, *this, s, frame, std::move(items));
    const Value loop_value(loop);
    loop->depth0 = depth0;
    loop->recursive = s.recursive;
    QUERN_TRY(const Value inner, open_frame(s.scope, frame));
    // As in Jinja2, a round that ends by break or continue does not count against `else`.
    bool completed_one = false;
    while (true) {
      QUERN_TRY(const bool more, loop->advance());
      if (!more) break;
      if (loop->index0 > 0) load_variables(s.scope, inner);
      if (s.loop.hops >= 0) slot(inner, s.loop) = loop_value;
      QUERN_TRY_STATUS(assign(*s.target, loop->current, inner));
      QUERN_TRY(const Flow flow, body(s.body, inner));
      if (flow == Flow::break_loop) break;
      completed_one = completed_one || flow == Flow::next;
    }
    for (Value& variable : inner.as<Frame>().slots) variable = Value();
    if (completed_one || s.otherwise.empty()) return Flow::next;
    QUERN_TRY(const Value otherwise, open_frame(s.otherwise_scope, frame));
    return body(s.otherwise, otherwise);
  }

  Status call_block(const Stmt& s, const Value& frame) {
    const Value caller(rt_.heap.make<MacroObject>(0, *s.code, frame));
    QUERN_TRY(const Value value, eval_call(*s.value, frame, &caller));
    return write(value);
  }

  // Expressions.

  Result<Value> eval(const Expr& e, const Value& frame) {
    Level level(depth_);
    QUERN_TRY_STATUS(check_depth());
    rt_.line = e.line;
    switch (e.kind) {
      case ExprKind::constant:
        return constant(e.constant);
      case ExprKind::name:
        return eval_name(e, frame);
      case ExprKind::tuple:
      case ExprKind::list:
        return eval_items(e, frame);
      case ExprKind::dict:
        return eval_dict(e, frame);
      case ExprKind::condition:
        return eval_condition(e, frame);
      case ExprKind::either:
      case ExprKind::both:
        return eval_logic(e, frame);
      case ExprKind::negation:
        return eval_not(e, frame);
      case ExprKind::compare:
        return eval_compare(e, frame);
      case ExprKind::arithmetic:
        return eval_arithmetic(e, frame);
      case ExprKind::concat:
        return eval_concat(e, frame);
      case ExprKind::minus:
      case ExprKind::plus:
        return eval_sign(e, frame);
      case ExprKind::attribute:
        return eval_attribute(e, frame);
      case ExprKind::item:
        return eval_item(e, frame);
      case ExprKind::slice:
        return eval_slice(e, frame);
      case ExprKind::call:
        return eval_call(e, frame, nullptr);
      case ExprKind::filter:
        return eval_filter(e, frame, nullptr);
      case ExprKind::test:
        return eval_test(e, frame);
      case ExprKind::attribute_target:
        break;
    }
    return Value();
  }

  Result<Value> eval_name(const Expr& e, const Value& frame) {
    const Value& value = slot(frame, e.slot);
    if (value.given()) return value;
    return rt_.undefined(fmt::format("'{}' is undefined", e.name));
  }

  Result<Value> eval_items(const Expr& e, const Value& frame) {
    Values items;
    items.reserve(e.operands.size());
    for (const ExprPtr& operand : e.operands) {
      QUERN_TRY(Value value, eval(*operand, frame));
      items.push_back(std::move(value));
    }
    return rt_.list(std::move(items), e.kind == ExprKind::tuple ? Kind::tuple : Kind::list);
  }

  Result<Value> eval_dict(const Expr& e, const Value& frame) {
    Value dict = rt_.dict();
    for (size_t i = 0; i + 1 < e.operands.size(); i += 2) {
      QUERN_TRY(const Value key, eval(*e.operands[i], frame));
      QUERN_TRY(Value value, eval(*e.operands[i + 1], frame));
      QUERN_TRY_STATUS(set_key(rt_, dict.as<DictObject>(), key, std::move(value)));
    }
    return dict;
  }

  Result<Value> eval_condition(const Expr& e, const Value& frame) {
    QUERN_TRY(const Value test, eval(*e.operands[0], frame));
    QUERN_TRY(const bool holds, truthy(test));
    if (holds) return eval(*e.operands[1], frame);
    if (e.operands.size() > 2) return eval(*e.operands[2], frame);
    return rt_.undefined("the inline if-expression evaluated to false and no else section was defined.");
  }

  Result<Value> eval_logic(const Expr& e, const Value& frame) {
    Value value;
    for (const ExprPtr& operand : e.operands) {
      QUERN_TRY(value, eval(*operand, frame));
      QUERN_TRY(const bool holds, truthy(value));
      if (holds == (e.kind == ExprKind::either)) break;
    }
    return value;
  }

  Result<Value> eval_not(const Expr& e, const Value& frame) {
    QUERN_TRY(const Value value, eval(*e.operands[0], frame));
    QUERN_TRY(const bool holds, truthy(value));
    return Value::boolean(!holds);
  }

  Result<Value> eval_compare(const Expr& e, const Value& frame) {
    QUERN_TRY(Value left, eval(*e.operands[0], frame));
    for (size_t i = 0; i < e.compare_ops.size(); ++i) {
      QUERN_TRY(Value right, eval(*e.operands[i + 1], frame));
      QUERN_TRY(const bool holds, compare(rt_, e.compare_ops[i], left, right));
      if (!holds) return Value::boolean(false);
      left = std::move(right);
    }
    return Value::boolean(true);
  }

  Result<Value> eval_arithmetic(const Expr& e, const Value& frame) {
    QUERN_TRY(Value result, eval(*e.operands[0], frame));
    for (size_t i = 0; i < e.binary_ops.size(); ++i) {
      QUERN_TRY(const Value right, eval(*e.operands[i + 1], frame));
      rt_.line = e.line;
      QUERN_TRY(result, arithmetic(rt_, e.binary_ops[i], result, right));
    }
    return result;
  }

  Result<Value> eval_concat(const Expr& e, const Value& frame) {
    Text out;
    for (const ExprPtr& operand : e.operands) {
      QUERN_TRY(const Value value, eval(*operand, frame));
      QUERN_TRY_STATUS(append_str(rt_, value, out));
      if (static_cast<int64_t>(out.memory_bytes()) > rt_.limits.max_memory_bytes - rt_.heap.used_bytes())
        return rt_.reserve(-1).error();
    }
    return rt_.string(std::move(out));
  }

  Result<Value> eval_sign(const Expr& e, const Value& frame) {
    QUERN_TRY(const Value value, eval(*e.operands[0], frame));
    return negate(rt_, value, e.kind == ExprKind::minus);
  }

  Result<Value> eval_attribute(const Expr& e, const Value& frame) {
    QUERN_TRY(const Value value, eval(*e.operands[0], frame));
    return get_attribute(rt_, value, Text(e.name));
  }

  Result<Value> eval_item(const Expr& e, const Value& frame) {
    QUERN_TRY(const Value value, eval(*e.operands[0], frame));
    QUERN_TRY(const Value key, eval(*e.operands[1], frame));
    return get_item(rt_, value, key);
  }

  Result<Value> eval_slice(const Expr& e, const Value& frame) {
    QUERN_TRY(const Value value, eval(*e.operands[0], frame));
    Value bounds[3];
    for (size_t i = 0; i < 3; ++i)
      if (e.operands[i + 1]) {
        QUERN_TRY(bounds[i], eval(*e.operands[i + 1], frame));
      }
    return get_slice(rt_, value, bounds[0], bounds[1], bounds[2]);
  }

  struct Arguments {
    Values positional;
    NamedValues named;
  };

  Result<Arguments> eval_arguments(const Expr& e, const Value& frame) {
    Arguments out;
    for (const Argument& argument : e.arguments) {
      QUERN_TRY(Value value, eval(*argument.value, frame));
      switch (argument.form) {
        case Argument::Form::positional:
          out.positional.push_back(std::move(value));
          break;
        case Argument::Form::named:
          out.named.emplace_back(argument.name, std::move(value));
          break;
        case Argument::Form::star: {
          QUERN_TRY(Values more, iterate(rt_, value));
          out.positional.insert(out.positional.end(), more.begin(), more.end());
          break;
        }
        case Argument::Form::double_star:
          QUERN_TRY_STATUS(spread_names(value, out.named));
      }
    }
    std::vector<std::string_view> names;
    for (const auto& [name, value] : out.named) names.push_back(name);
    std::sort(names.begin(), names.end());
    if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
      return template_error("got multiple values for keyword argument '{}'", *twice);
    return out;
  }

  Status spread_names(const Value& value, NamedValues& named) {
    if (!value.is(Kind::dict)) return template_error("argument after ** must be a mapping, not {}", type_name(value));
    for (const auto& [key, item] : value.as<DictObject>().entries) {
      if (!key.is(Kind::string)) return template_error("keywords must be strings");
      named.emplace_back(key.view(), item);
    }
    return rt_.spend(static_cast<int64_t>(value.as<DictObject>().entries.size()));
  }

  Result<Value> eval_call(const Expr& e, const Value& frame, const Value* caller) {
    QUERN_TRY(const Value callee, eval(*e.operands[0], frame));
    QUERN_TRY(Arguments arguments, eval_arguments(e, frame));
    if (caller) arguments.named.emplace_back("caller", *caller);
    rt_.line = e.line;
    return call(callee, std::move(arguments));
  }

  Result<Value> call(const Value& callee, Arguments arguments) {
    switch (callee.kind()) {
      case Kind::macro:
        return call_macro(callee.as<MacroObject>(), std::move(arguments));
      case Kind::builtin:
        return call_builtin(rt_, callee.as<BuiltinObject>().builtin, Value(), std::move(arguments.positional),
                            std::move(arguments.named));
      case Kind::method: {
        const auto& method = callee.as<MethodObject>();
        return call_builtin(rt_, method.method, method.receiver, std::move(arguments.positional),
                            std::move(arguments.named));
      }
      case Kind::joiner:
        return call_joiner(callee.as<JoinerObject>(), arguments);
      case Kind::loop:
        return call_loop(static_cast<TemplateLoop&>(callee.as<LoopObject>()), arguments);
      default:
        break;
    }
    QUERN_TRY_STATUS(check_defined(callee));
    return template_error("'{}' object is not callable", type_name(callee));
  }

  Result<Value> call_joiner(JoinerObject& joiner, const Arguments& arguments) {
    if (!arguments.positional.empty() || !arguments.named.empty()) return template_error("a joiner takes no arguments");
    if (std::exchange(joiner.used, true)) return joiner.separator;
    return rt_.string("");
  }

  /// A recursive loop renders itself over other items.
  Result<Value> call_loop(TemplateLoop& loop, const Arguments& arguments) {
    if (!loop.recursive) return template_error("The loop must have the 'recursive' marker to be called recursively.");
    if (arguments.positional.size() != 1 || !arguments.named.empty())
      return template_error("a loop takes one argument");
    Level level(call_depth_);
    QUERN_TRY_STATUS(check_depth());
    Text text;
    Text* outer = std::exchange(out_, &text);
    const Result<Flow> flow = run_loop(loop.stmt(), loop.frame(), arguments.positional[0], loop.depth0 + 1);
    out_ = outer;
    if (!flow) return flow.error();
    return rt_.string(std::move(text));
  }

  Result<Value> call_macro(MacroObject& macro, Arguments arguments) {
    Level level(call_depth_);
    QUERN_TRY_STATUS(check_depth());
    QUERN_TRY(const Value frame, open_frame(macro.code.scope, macro.frame));
    QUERN_TRY_STATUS(bind_macro(macro.code, std::move(arguments), frame));
    Text text;
    QUERN_TRY_STATUS(done_capture(capture(macro.code.body, frame, text)));
    return rt_.string(std::move(text));
  }

  static Status done_capture(const Result<Flow>& flow) { return flow ? Status() : Status(flow.error()); }

  static Value take_named(NamedValues& named, std::string_view name) {
    for (size_t i = 0; i < named.size(); ++i) {
      if (named[i].first != name) continue;
      Value value = std::move(named[i].second);
      named.erase(named.begin() + static_cast<ptrdiff_t>(i));
      return value;
    }
    return {};
  }

  Status bind_macro(const MacroCode& code, Arguments arguments, const Value& frame) {
    Values& positional = arguments.positional;
    NamedValues& named = arguments.named;
    const size_t declared = code.parameters.size();
    for (size_t i = 0; i < declared; ++i)
      slot(frame, code.parameters[i].slot) =
          i < positional.size() ? positional[i] : take_named(named, code.parameters[i].name);
    if (code.caller.hops >= 0) {
      Value caller = take_named(named, "caller");
      slot(frame, code.caller) = caller.given() && !caller.is(Kind::none) ? caller : rt_.undefined("No caller defined");
    }
    if (code.kwargs.hops >= 0) {
      const Value rest = rt_.dict();
      for (const auto& [name, value] : named)
        QUERN_TRY_STATUS(set_key(rt_, rest.as<DictObject>(), rt_.string(name), value));
      slot(frame, code.kwargs) = rest;
    } else if (!named.empty()) {
      return template_error("macro '{}' takes no keyword argument '{}'", code.name, named.front().first);
    }
    const auto extra = positional.begin() + static_cast<ptrdiff_t>(std::min(declared, positional.size()));
    if (code.varargs.hops >= 0)
      slot(frame, code.varargs) = rt_.tuple(Values(extra, positional.end()));
    else if (extra != positional.end())
      return template_error("macro '{}' takes not more than {} argument(s)", code.name, declared);
    return fill_defaults(code, frame);
  }

  Status fill_defaults(const MacroCode& code, const Value& frame) {
    for (const Parameter& parameter : code.parameters) {
      if (slot(frame, parameter.slot).given()) continue;
      Value value = rt_.undefined(fmt::format("parameter '{}' was not provided", parameter.name));
      if (parameter.default_value) {
        QUERN_TRY(value, eval(*parameter.default_value, frame));
      }
      slot(frame, parameter.slot) = std::move(value);
    }
    return {};
  }

  /// A chain of filters; the innermost input is an expression, or the text a block has captured.
  Result<Value> eval_filter(const Expr& e, const Value& frame, const Value* captured) {
    Level level(depth_);
    QUERN_TRY_STATUS(check_depth());
    Value input;
    if (!e.operands[0]) {
      input = *captured;
    } else if (captured && e.operands[0]->kind == ExprKind::filter) {
      QUERN_TRY(input, eval_filter(*e.operands[0], frame, captured));
    } else {
      QUERN_TRY(input, eval(*e.operands[0], frame));
    }
    QUERN_TRY(Arguments arguments, eval_arguments(e, frame));
    rt_.line = e.line;
    if (!e.builtin) return template_error("No filter named '{}' found.", e.name);
    return call_builtin(rt_, *e.builtin, input, std::move(arguments.positional), std::move(arguments.named));
  }

  Result<Value> eval_test(const Expr& e, const Value& frame) {
    QUERN_TRY(const Value subject, eval(*e.operands[0], frame));
    QUERN_TRY(Arguments arguments, eval_arguments(e, frame));
    rt_.line = e.line;
    if (!e.builtin) return template_error("No test named '{}' found.", e.name);
    return call_builtin(rt_, *e.builtin, subject, std::move(arguments.positional), std::move(arguments.named));
  }

  const Template& tree_;
  Runtime& rt_;
  std::unordered_map<std::string, Value> context_;
  Values constants_;
  Text* out_ = nullptr;
  int depth_ = 0;
  int call_depth_ = 0;
};

Result<bool> TemplateLoop::read_ahead() {
  while (position_ < source_.size()) {
    const Value item = source_[position_++];
    if (stmt_.test) {
      QUERN_TRY(const bool wanted, interpreter_.passes(stmt_, item, frame_));
      if (!wanted) continue;
    }
    ahead.push_back(item);
    return true;
  }
  return false;
}

Result<bool> TemplateLoop::advance() {
  if (ahead_start == ahead.size()) {
    ahead.clear();
    ahead_start = 0;
    QUERN_TRY(const bool more, read_ahead());
    if (!more) return false;
  }
  previous_item = std::move(current);
  current = std::move(ahead[ahead_start++]);
  ++index0;
  return true;
}

}  // namespace

Result<Text> render(const Template& tree, const Json& context, std::span<const std::string_view> user_keys,
                    Runtime& rt) {
  Interpreter interpreter(tree, rt);
  Status loaded = interpreter.load_context(context, user_keys);
  if (!loaded) return std::move(loaded).error();
  Result<Text> out = interpreter.run();
  if (!out && !rt.raised) return std::move(out).error().in(fmt::format("line {}", rt.line));
  return out;
}

}  // namespace quern::jinja
