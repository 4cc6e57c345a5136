// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/interpreter_class.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"

namespace quern::jinja {

Result<Value> Interpreter::eval(const Expr& e, const Value& frame) {
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

Result<Value> Interpreter::eval_name(const Expr& e, const Value& frame) {
  const Value& value = slot(frame, e.slot);
  if (value.given()) return value;
  return rt_.undefined(fmt::format("'{}' is undefined", e.name));
}

Result<Value> Interpreter::eval_items(const Expr& e, const Value& frame) {
  Values items;
  items.reserve(e.operands.size());
  for (const ExprPtr& operand : e.operands) {
    QUERN_TRY(Value value, eval(*operand, frame));
    items.push_back(std::move(value));
  }
  return rt_.list(std::move(items), e.kind == ExprKind::tuple ? Kind::tuple : Kind::list);
}

Result<Value> Interpreter::eval_dict(const Expr& e, const Value& frame) {
  Value dict = rt_.dict();
  for (size_t i = 0; i + 1 < e.operands.size(); i += 2) {
    QUERN_TRY(const Value key, eval(*e.operands[i], frame));
    QUERN_TRY(Value value, eval(*e.operands[i + 1], frame));
    QUERN_TRY_STATUS(set_key(rt_, dict.as<DictObject>(), key, std::move(value)));
  }
  return dict;
}

Result<Value> Interpreter::eval_condition(const Expr& e, const Value& frame) {
  QUERN_TRY(const Value test, eval(*e.operands[0], frame));
  QUERN_TRY(const bool holds, truthy(test));
  if (holds) return eval(*e.operands[1], frame);
  if (e.operands.size() > 2) return eval(*e.operands[2], frame);
  return rt_.undefined("the inline if-expression evaluated to false and no else section was defined.");
}

Result<Value> Interpreter::eval_logic(const Expr& e, const Value& frame) {
  Value value;
  for (const ExprPtr& operand : e.operands) {
    QUERN_TRY(value, eval(*operand, frame));
    QUERN_TRY(const bool holds, truthy(value));
    if (holds == (e.kind == ExprKind::either)) break;
  }
  return value;
}

Result<Value> Interpreter::eval_not(const Expr& e, const Value& frame) {
  QUERN_TRY(const Value value, eval(*e.operands[0], frame));
  QUERN_TRY(const bool holds, truthy(value));
  return Value::boolean(!holds);
}

Result<Value> Interpreter::eval_compare(const Expr& e, const Value& frame) {
  QUERN_TRY(Value left, eval(*e.operands[0], frame));
  for (size_t i = 0; i < e.compare_ops.size(); ++i) {
    QUERN_TRY(Value right, eval(*e.operands[i + 1], frame));
    QUERN_TRY(const bool holds, compare(rt_, e.compare_ops[i], left, right));
    if (!holds) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Result<Value> Interpreter::eval_arithmetic(const Expr& e, const Value& frame) {
  QUERN_TRY(Value result, eval(*e.operands[0], frame));
  for (size_t i = 0; i < e.binary_ops.size(); ++i) {
    QUERN_TRY(const Value right, eval(*e.operands[i + 1], frame));
    rt_.line = e.line;
    QUERN_TRY(result, arithmetic(rt_, e.binary_ops[i], result, right));
  }
  return result;
}

Result<Value> Interpreter::eval_concat(const Expr& e, const Value& frame) {
  Text out;
  for (const ExprPtr& operand : e.operands) {
    QUERN_TRY(const Value value, eval(*operand, frame));
    QUERN_TRY_STATUS(append_str(rt_, value, out));
    if (static_cast<int64_t>(out.memory_bytes()) > rt_.limits.max_memory_bytes - rt_.heap.used_bytes())
      return rt_.reserve(-1).error();
  }
  return rt_.string(std::move(out));
}

Result<Value> Interpreter::eval_sign(const Expr& e, const Value& frame) {
  QUERN_TRY(const Value value, eval(*e.operands[0], frame));
  return negate(rt_, value, e.kind == ExprKind::minus);
}

Result<Value> Interpreter::eval_attribute(const Expr& e, const Value& frame) {
  QUERN_TRY(const Value value, eval(*e.operands[0], frame));
  return get_attribute(rt_, value, Text(e.name));
}

Result<Value> Interpreter::eval_item(const Expr& e, const Value& frame) {
  QUERN_TRY(const Value value, eval(*e.operands[0], frame));
  QUERN_TRY(const Value key, eval(*e.operands[1], frame));
  return get_item(rt_, value, key);
}

Result<Value> Interpreter::eval_slice(const Expr& e, const Value& frame) {
  QUERN_TRY(const Value value, eval(*e.operands[0], frame));
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i)
    if (e.operands[i + 1]) {
      QUERN_TRY(bounds[i], eval(*e.operands[i + 1], frame));
    }
  return get_slice(rt_, value, bounds[0], bounds[1], bounds[2]);
}

}  // namespace quern::jinja
