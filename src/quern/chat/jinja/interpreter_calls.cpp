// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "quern/chat/jinja/builtins.h"
#include "quern/chat/jinja/interpreter_class.h"
#include "quern/chat/jinja/operations.h"

namespace quern::jinja {

Result<Interpreter::Arguments> Interpreter::eval_arguments(const Expr& e, const Value& frame) {
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

Status Interpreter::spread_names(const Value& value, NamedValues& named) {
  if (!value.is(Kind::dict)) return template_error("argument after ** must be a mapping, not {}", type_name(value));
  for (const auto& [key, item] : value.as<DictObject>().entries) {
    if (!key.is(Kind::string)) return template_error("keywords must be strings");
    named.emplace_back(key.view(), item);
  }
  return rt_.spend(static_cast<int64_t>(value.as<DictObject>().entries.size()));
}

Result<Value> Interpreter::eval_call(const Expr& e, const Value& frame, const Value* caller) {
  QUERN_TRY(const Value callee, eval(*e.operands[0], frame));
  QUERN_TRY(Arguments arguments, eval_arguments(e, frame));
  if (caller) arguments.named.emplace_back("caller", *caller);
  rt_.line = e.line;
  return call(callee, std::move(arguments));
}

Result<Value> Interpreter::call(const Value& callee, Arguments arguments) {
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

Result<Value> Interpreter::call_joiner(JoinerObject& joiner, const Arguments& arguments) {
  if (!arguments.positional.empty() || !arguments.named.empty()) return template_error("a joiner takes no arguments");
  if (std::exchange(joiner.used, true)) return joiner.separator;
  return rt_.string("");
}

Result<Value> Interpreter::call_loop(TemplateLoop& loop, const Arguments& arguments) {
  if (!loop.recursive) return template_error("The loop must have the 'recursive' marker to be called recursively.");
  if (arguments.positional.size() != 1 || !arguments.named.empty()) return template_error("a loop takes one argument");
  Level level(call_depth_);
  QUERN_TRY_STATUS(check_depth());
  Text text;
  Text* outer = std::exchange(out_, &text);
  const Result<Flow> flow = run_loop(loop.stmt(), loop.frame(), arguments.positional[0], loop.depth0 + 1);
  out_ = outer;
  if (!flow) return flow.error();
  return rt_.string(std::move(text));
}

Result<Value> Interpreter::call_macro(MacroObject& macro, Arguments arguments) {
  Level level(call_depth_);
  QUERN_TRY_STATUS(check_depth());
  QUERN_TRY(const Value frame, open_frame(macro.code.scope, macro.frame));
  QUERN_TRY_STATUS(bind_macro(macro.code, std::move(arguments), frame));
  Text text;
  QUERN_TRY_STATUS(done_capture(capture(macro.code.body, frame, text)));
  return rt_.string(std::move(text));
}

Value Interpreter::take_named(NamedValues& named, std::string_view name) {
  for (size_t i = 0; i < named.size(); ++i) {
    if (named[i].first != name) continue;
    Value value = std::move(named[i].second);
    named.erase(named.begin() + static_cast<ptrdiff_t>(i));
    return value;
  }
  return {};
}

Status Interpreter::bind_macro(const MacroCode& code, Arguments arguments, const Value& frame) {
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

Status Interpreter::fill_defaults(const MacroCode& code, const Value& frame) {
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

Result<Value> Interpreter::eval_filter(const Expr& e, const Value& frame, const Value* captured) {
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

Result<Value> Interpreter::eval_test(const Expr& e, const Value& frame) {
  QUERN_TRY(const Value subject, eval(*e.operands[0], frame));
  QUERN_TRY(Arguments arguments, eval_arguments(e, frame));
  rt_.line = e.line;
  if (!e.builtin) return template_error("No test named '{}' found.", e.name);
  return call_builtin(rt_, *e.builtin, subject, std::move(arguments.positional), std::move(arguments.named));
}

}  // namespace quern::jinja
