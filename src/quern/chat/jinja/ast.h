// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace quern::jinja {

struct Builtin;
struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Body = std::vector<std::unique_ptr<Stmt>>;

/// Where a name lives: so many scopes out, then the place there. Filled in by the scope pass.
struct Slot {
  int hops = -1;
  int index = -1;
};

/// What a scope does to one of its variables on entry.
struct Load {
  enum class From : uint8_t { parameter, context, outer, nothing };
  From from = From::nothing;
  std::string name;
  Slot outer;  ///< From::outer: seen from the parent scope
};

struct ScopeLayout {
  std::vector<Load> loads;  // one per slot
};

enum class BinaryOp : uint8_t { add, subtract, multiply, divide, floor_divide, modulo, power };
enum class CompareOp : uint8_t { equal, not_equal, less, less_equal, greater, greater_equal, in, not_in };

struct Argument {
  enum class Form : uint8_t { positional, named, star, double_star };
  Form form;
  std::string name;
  ExprPtr value;
};

enum class ExprKind : uint8_t {
  constant,          ///< constant
  name,              ///< name, slot
  attribute_target,  ///< name.attribute = ...: name and attribute of a namespace
  tuple,
  list,       ///< operands
  dict,       ///< operands: key, value, key, value ...
  condition,  ///< operands: test, value, [value otherwise]
  either,
  both,        ///< `or`, `and` over operands
  negation,    ///< not
  compare,     ///< operands with compare_ops between them
  arithmetic,  ///< operands with binary_ops between them, from left to right
  concat,      ///< ~ over operands
  minus,
  plus,
  attribute,  ///< operand.name
  item,       ///< operands: value, key
  slice,      ///< operands: value, start, stop, step (null where not written)
  call,       ///< operands: callee; arguments
  filter,     ///< operands: input (null: the captured text of a block); name, builtin, arguments
  test,       ///< as filter
};

struct Constant {
  enum class Type : uint8_t { none, boolean, integer, big_integer, floating, string };
  Type type = Type::none;
  bool boolean = false;
  int64_t integer = 0;
  double floating = 0;
  std::string text;  ///< of a string; digits of a big integer
};

struct Expr {
  ExprKind kind;
  int line = 0;
  int height = 1;  ///< levels of the tree below and with it; bounded, so that walks may recurse
  std::string name;
  std::string attribute;
  int constant = -1;  ///< index into Template::constants
  Slot slot;
  std::vector<ExprPtr> operands;
  std::vector<BinaryOp> binary_ops;
  std::vector<CompareOp> compare_ops;
  std::vector<Argument> arguments;
  const Builtin* builtin = nullptr;
};

struct Parameter {
  std::string name;
  Slot slot;              ///< in the macro's own scope
  ExprPtr default_value;  ///< null: none
};

/// Macro or call block.
struct MacroCode {
  std::string name;
  std::vector<Parameter> parameters;
  Body body;
  ScopeLayout scope;
  bool explicit_caller = false;  ///< `caller` stands among the parameters
  // The special names that the body reads; hops < 0: it does not.
  Slot caller, varargs, kwargs;
};

enum class StmtKind : uint8_t {
  text,          ///< text
  print,         ///< value
  set,           ///< target = value
  set_block,     ///< target, value (filter chain or null), body, scope
  if_,           ///< branches
  for_,          ///< target, value (iterable), test, body, otherwise, recursive
  macro,         ///< target slot, code
  call_block,    ///< value (the call), code (the caller)
  filter_block,  ///< value (filter chain), body, scope
  with,          ///< targets and values, body, scope; also `generation`, without targets
  break_,
  continue_,
};

struct Branch {
  ExprPtr test;  ///< null: else
  Body body;
};

struct Stmt {
  StmtKind kind;
  int line = 0;
  int constant = -1;  ///< text: index into Template::constants
  Slot slot;
  ExprPtr target, value, test;
  std::vector<std::pair<ExprPtr, ExprPtr>> bindings;
  std::vector<Branch> branches;
  Body body, otherwise;
  ScopeLayout scope, test_scope, otherwise_scope;
  Slot loop;  ///< for_: where the body keeps `loop`; hops < 0: it does not use it
  bool recursive = false;
  std::unique_ptr<MacroCode> code;
};

struct Template {
  Body body;
  ScopeLayout scope;
  std::vector<Constant> constants;
  Slot self;
  std::vector<std::string> free_names;  ///< read from the context, sorted
};

}  // namespace quern::jinja
