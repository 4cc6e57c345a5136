// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/interpreter.h"

#include <algorithm>

#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/convert.h"
#include "quern/chat/jinja/interpreter_class.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"

namespace quern::jinja {

Status Interpreter::load_context(const Json& context, std::span<const std::string_view> user_keys) {
  if (!context.is_object()) return template_error("the variables must be an object");
  for (const auto& [key, json] : context.object()) {
    const bool user = std::find(user_keys.begin(), user_keys.end(), key) != user_keys.end();
    QUERN_TRY(Value value,
              user && key == "messages" ? messages_from_json(rt_, json) : from_json_value(rt_, json, user));
    context_.insert_or_assign(key, std::move(value));
  }
  return {};
}

Result<Text> Interpreter::run() {
  Text out;
  out_ = &out;
  QUERN_TRY(Value frame, open_frame(tree_.scope, Value()));
  if (tree_.self.hops >= 0) slot(frame, tree_.self) = Value(rt_.heap.make<SelfObject>(0));
  QUERN_TRY_STATUS(body(tree_.body, frame));
  return out;
}

Result<bool> Interpreter::passes(const Stmt& loop, const Value& item, const Value& frame) {
  QUERN_TRY(Value inner, open_frame(loop.test_scope, frame));
  QUERN_TRY_STATUS(assign(*loop.target, item, inner));
  QUERN_TRY(const Value result, eval(*loop.test, inner));
  return truthy(result);
}

// Variables.

Value Interpreter::resolve(const std::string& name) {
  if (const auto it = context_.find(name); it != context_.end()) return it->second;
  if (const Builtin* function = find_function(name)) return Value(rt_.heap.make<BuiltinObject>(0, *function));
  return Value();
}

Result<Value> Interpreter::open_frame(const ScopeLayout& layout, const Value& outer) {
  QUERN_TRY_STATUS(rt_.spend(1));
  Value frame(
      rt_.heap.make<Frame>(static_cast<int64_t>(layout.loads.size() * sizeof(Value)), layout.loads.size(), outer));
  load_variables(layout, frame);
  return frame;
}

void Interpreter::load_variables(const ScopeLayout& layout, const Value& frame) {
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

Status Interpreter::assign(const Expr& target, const Value& value, const Value& frame) {
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

Status Interpreter::assign_attribute(const Expr& target, const Value& value, const Value& frame) {
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

const Value& Interpreter::constant(int index) {
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

Result<Flow> Interpreter::body(const Body& statements, const Value& frame) {
  Level level(depth_);
  QUERN_TRY_STATUS(check_depth());
  for (const auto& s : statements) {
    rt_.line = s->line;
    QUERN_TRY(const Flow flow, statement(*s, frame));
    if (flow != Flow::next) return flow;
  }
  return Flow::next;
}

Result<Flow> Interpreter::statement(const Stmt& s, const Value& frame) {
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

Status Interpreter::check_output() {
  if (static_cast<int64_t>(out_->size()) > rt_.limits.max_output_bytes)
    return template_error("writes more than {} bytes", rt_.limits.max_output_bytes);
  if (static_cast<int64_t>(out_->memory_bytes()) > rt_.limits.max_memory_bytes) return rt_.reserve(-1);
  return rt_.spend(1);
}

Status Interpreter::write(const Value& value) {
  QUERN_TRY_STATUS(append_str(rt_, value, *out_));
  return check_output();
}

Status Interpreter::print(const Stmt& s, const Value& frame) {
  QUERN_TRY(const Value value, eval(*s.value, frame));
  return write(value);
}

Status Interpreter::set(const Stmt& s, const Value& frame) {
  QUERN_TRY(const Value value, eval(*s.value, frame));
  return assign(*s.target, value, frame);
}

Result<Flow> Interpreter::capture(const Body& statements, const Value& frame, Text& text) {
  Text* outer = std::exchange(out_, &text);
  Result<Flow> flow = body(statements, frame);
  out_ = outer;
  return flow;
}

Result<Flow> Interpreter::set_block(const Stmt& s, const Value& frame) {
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

Result<Flow> Interpreter::filter_block(const Stmt& s, const Value& frame) {
  QUERN_TRY(const Value inner, open_frame(s.scope, frame));
  Text text;
  QUERN_TRY(const Flow flow, capture(s.body, inner, text));
  if (flow != Flow::next) return flow;
  const Value captured = rt_.string(std::move(text));
  QUERN_TRY(const Value value, eval_filter(*s.value, inner, &captured));
  return done(write(value));
}

Result<Flow> Interpreter::if_statement(const Stmt& s, const Value& frame) {
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

Result<Flow> Interpreter::with(const Stmt& s, const Value& frame) {
  QUERN_TRY(const Value inner, open_frame(s.scope, frame));
  for (const auto& [target, expr] : s.bindings) {
    QUERN_TRY(const Value value, eval(*expr, frame));
    QUERN_TRY_STATUS(assign(*target, value, inner));
  }
  return body(s.body, inner);
}

Result<Flow> Interpreter::for_statement(const Stmt& s, const Value& frame) {
  QUERN_TRY(const Value iterable, eval(*s.value, frame));
  return run_loop(s, frame, iterable, 0);
}

Result<Flow> Interpreter::run_loop(const Stmt& s, const Value& frame, const Value& iterable, int depth0) {
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

Status Interpreter::call_block(const Stmt& s, const Value& frame) {
  const Value caller(rt_.heap.make<MacroObject>(0, *s.code, frame));
  QUERN_TRY(const Value value, eval_call(*s.value, frame, &caller));
  return write(value);
}

// Loops.

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
