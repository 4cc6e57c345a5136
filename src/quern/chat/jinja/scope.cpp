// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/scope.h"

#include <algorithm>
#include <map>
#include <set>

#include "quern/chat/jinja/builtins.h"

namespace quern::jinja {
namespace {

/// The names of one scope while they are collected. Branches of an `if` work on copies that are joined afterwards.
class Symbols {
 public:
  explicit Symbols(const Symbols* parent) : parent_(parent) {}

  std::optional<Slot> find(const std::string& name) const {
    int hops = 0;
    for (const Symbols* scope = this; scope; scope = scope->parent_, ++hops)
      if (const auto it = scope->names_.find(name); it != scope->names_.end()) return Slot{hops, it->second.index};
    return std::nullopt;
  }

  Slot declare_parameter(const std::string& name) {
    stores_.insert(name);
    return define(name, {Load::From::parameter, name, {}});
  }
  void read(const std::string& name) {
    if (!find(name)) define(name, {Load::From::context, name, {}});
  }
  void store(const std::string& name) {
    stores_.insert(name);
    if (names_.contains(name)) return;
    if (const auto outer = find_outer(name))
      define(name, {Load::From::outer, name, *outer});
    else
      define(name, {Load::From::nothing, name, {}});
  }

  /// Takes over what the branches found. What only branches set starts with the value from outside.
  void join(const std::vector<Symbols>& branches) {
    std::set<std::string> stores;
    for (const Symbols& branch : branches) stores.insert(branch.stores_.begin(), branch.stores_.end());
    for (const std::string& name : stores_) stores.erase(name);
    for (const Symbols& branch : branches) {
      for (const auto& [name, entry] : branch.names_) define(name, entry.load);
      stores_.insert(branch.stores_.begin(), branch.stores_.end());
    }
    for (const std::string& name : stores) {
      if (const auto outer = find_outer(name))
        define(name, {Load::From::outer, name, *outer});
      else
        define(name, {Load::From::context, name, {}});
    }
  }

  ScopeLayout layout() const {
    ScopeLayout out;
    out.loads.resize(names_.size());
    for (const auto& [name, entry] : names_) out.loads[entry.index] = entry.load;
    return out;
  }

 private:
  struct Entry {
    int index;
    Load load;
  };

  std::optional<Slot> find_outer(const std::string& name) const { return parent_ ? parent_->find(name) : std::nullopt; }

  Slot define(const std::string& name, Load load) {
    const auto [it, added] = names_.try_emplace(name, Entry{static_cast<int>(names_.size()), load});
    if (!added) it->second.load = std::move(load);
    return {0, it->second.index};
  }

  const Symbols* parent_;
  std::map<std::string, Entry> names_;
  std::set<std::string> stores_;
};

/// Visits the expressions directly below one.
template <typename Visit>
void for_each_child(Expr& e, Visit visit) {
  for (ExprPtr& operand : e.operands)
    if (operand) visit(*operand);
  for (Argument& argument : e.arguments) visit(*argument.value);
}

void collect_expr(Expr& e, Symbols& symbols) {
  if (e.kind == ExprKind::name) symbols.read(e.name);
  for_each_child(e, [&](Expr& child) { collect_expr(child, symbols); });
}

void collect_target(Expr& e, Symbols& symbols, bool parameter) {
  switch (e.kind) {
    case ExprKind::name:
      parameter ? static_cast<void>(symbols.declare_parameter(e.name)) : symbols.store(e.name);
      break;
    case ExprKind::attribute_target:
      symbols.read(e.name);
      break;
    default:
      for_each_child(e, [&](Expr& child) { collect_target(child, symbols, parameter); });
  }
}

void collect_body(Body& body, Symbols& symbols);

void collect_if(Stmt& s, Symbols& symbols) {
  // Jinja2 keeps the first body, all elifs (as one branch, each an `if` of its own) and the else apart.
  collect_expr(*s.branches.front().test, symbols);
  std::vector<Symbols> branches(3, symbols);
  collect_body(s.branches.front().body, branches[0]);
  for (size_t i = 1; i < s.branches.size(); ++i) {
    if (!s.branches[i].test) {
      collect_body(s.branches[i].body, branches[2]);
      continue;
    }
    collect_expr(*s.branches[i].test, branches[1]);
    std::vector<Symbols> inner(1, branches[1]);
    collect_body(s.branches[i].body, inner[0]);
    branches[1].join(inner);
  }
  symbols.join(branches);
}

void collect_stmt(Stmt& s, Symbols& symbols) {
  switch (s.kind) {
    case StmtKind::print:
      collect_expr(*s.value, symbols);
      break;
    case StmtKind::set:
      collect_expr(*s.value, symbols);
      collect_target(*s.target, symbols, false);
      break;
    case StmtKind::set_block:
      collect_target(*s.target, symbols, false);
      break;
    case StmtKind::if_:
      collect_if(s, symbols);
      break;
    case StmtKind::for_:
    case StmtKind::call_block:
    case StmtKind::filter_block:
      collect_expr(*s.value, symbols);
      break;
    case StmtKind::macro:
      symbols.store(s.code->name);
      break;
    case StmtKind::with:
      for (auto& [target, value] : s.bindings) collect_expr(*value, symbols);
      break;
    case StmtKind::text:
    case StmtKind::break_:
    case StmtKind::continue_:
      break;
  }
}

void collect_body(Body& body, Symbols& symbols) {
  for (auto& s : body) collect_stmt(*s, symbols);
}

/// Which of some names a body reads before it sets them, nested bodies included, in the order of the text.
class Undeclared {
 public:
  explicit Undeclared(std::set<std::string> names) : names_(std::move(names)) {}

  void visit(Body& body) {
    for (auto& s : body) visit(*s);
  }
  bool found(const std::string& name) const { return found_.contains(name); }

 private:
  void visit_expr(Expr& e) {
    if (e.kind == ExprKind::name && names_.contains(e.name)) found_.insert(e.name);
    for_each_child(e, [&](Expr& child) { visit_expr(child); });
  }
  void visit_target(Expr& e) {
    if (e.kind == ExprKind::name) names_.erase(e.name);
    for_each_child(e, [&](Expr& child) { visit_target(child); });
  }
  void visit_code(MacroCode& code) {
    for (Parameter& p : code.parameters) names_.erase(p.name);
    for (Parameter& p : code.parameters)
      if (p.default_value) visit_expr(*p.default_value);
    visit(code.body);
  }
  void visit(Stmt& s) {
    if (s.target) visit_target(*s.target);
    if (s.value) visit_expr(*s.value);
    for (auto& [target, value] : s.bindings) visit_target(*target);
    for (auto& [target, value] : s.bindings) visit_expr(*value);
    for (Branch& branch : s.branches) {
      if (branch.test) visit_expr(*branch.test);
      visit(branch.body);
    }
    if (s.code) visit_code(*s.code);
    visit(s.body);
    visit(s.otherwise);
    if (s.test) visit_expr(*s.test);
  }

  std::set<std::string> names_, found_;
};

bool reads_name(Body& body, const std::string& name) {
  Undeclared search({name});
  search.visit(body);
  return search.found(name);
}

class Resolver {
 public:
  explicit Resolver(Template& tree) : tree_(tree) {}

  Status run() {
    Symbols root(nullptr);
    if (reads_name(tree_.body, "self")) tree_.self = root.declare_parameter("self");
    collect_body(tree_.body, root);
    tree_.scope = layout(root);
    QUERN_TRY_STATUS(body(tree_.body, root));
    tree_.free_names.assign(free_names_.begin(), free_names_.end());
    return {};
  }

 private:
  ScopeLayout layout(const Symbols& symbols) {
    ScopeLayout out = symbols.layout();
    for (const Load& load : out.loads)
      if (load.from == Load::From::context && !find_function(load.name)) free_names_.insert(load.name);
    return out;
  }

  Status body(Body& statements, const Symbols& symbols) {
    for (auto& s : statements) QUERN_TRY_STATUS(stmt(*s, symbols));
    return {};
  }

  /// A body that may or may not run: there, unknown filters are an error only when they are reached.
  Status avoidable(Body& statements, const Symbols& symbols) {
    const bool outer = std::exchange(avoidable_, true);
    QUERN_TRY_STATUS(body(statements, symbols));
    avoidable_ = outer;
    return {};
  }
  Status scoped(Body& statements, const Symbols& symbols) {
    const bool outer = std::exchange(avoidable_, false);
    QUERN_TRY_STATUS(body(statements, symbols));
    avoidable_ = outer;
    return {};
  }

  Status expr(Expr& e, const Symbols& symbols) {
    if (e.kind == ExprKind::name || e.kind == ExprKind::attribute_target) e.slot = *symbols.find(e.name);
    if ((e.kind == ExprKind::filter || e.kind == ExprKind::test) && !e.builtin && !avoidable_)
      return make_error(ErrorCode::invalid_argument, "line {}: No {} named '{}'.", e.line,
                        e.kind == ExprKind::filter ? "filter" : "test", e.name);
    const bool outer = avoidable_;
    if (e.kind == ExprKind::condition) avoidable_ = true;
    Status status;
    for_each_child(e, [&](Expr& child) {
      if (status) status = expr(child, symbols);
    });
    avoidable_ = outer;
    return status;
  }

  Status stmt(Stmt& s, const Symbols& symbols) {
    switch (s.kind) {
      case StmtKind::text:
      case StmtKind::break_:
      case StmtKind::continue_:
        return {};
      case StmtKind::print:
        return expr(*s.value, symbols);
      case StmtKind::set:
        QUERN_TRY_STATUS(expr(*s.value, symbols));
        return expr(*s.target, symbols);
      case StmtKind::set_block:
      case StmtKind::filter_block:
        return captured(s, symbols);
      case StmtKind::if_:
        for (Branch& branch : s.branches) {
          if (branch.test) QUERN_TRY_STATUS(soft_expr(*branch.test, symbols));
          QUERN_TRY_STATUS(avoidable(branch.body, symbols));
        }
        return {};
      case StmtKind::for_:
        return for_loop(s, symbols);
      case StmtKind::macro:
        s.slot = *symbols.find(s.code->name);
        return code(*s.code, symbols);
      case StmtKind::call_block:
        QUERN_TRY_STATUS(code(*s.code, symbols));
        return expr(*s.value, symbols);
      case StmtKind::with:
        return with(s, symbols);
    }
    return {};
  }

  Status soft_expr(Expr& e, const Symbols& symbols) {
    const bool outer = std::exchange(avoidable_, true);
    QUERN_TRY_STATUS(expr(e, symbols));
    avoidable_ = outer;
    return {};
  }

  Status captured(Stmt& s, const Symbols& symbols) {
    Symbols inner(&symbols);
    collect_body(s.body, inner);
    if (s.kind == StmtKind::filter_block) collect_expr(*s.value, inner);
    // The filters of a set block are not searched for names by Jinja2; a name found nowhere comes from the context.
    if (s.kind == StmtKind::set_block && s.value) collect_expr(*s.value, inner);
    s.scope = layout(inner);
    QUERN_TRY_STATUS(scoped(s.body, inner));
    if (s.value) QUERN_TRY_STATUS(expr(*s.value, inner));
    if (s.target) return expr(*s.target, symbols);
    return {};
  }

  Status with(Stmt& s, const Symbols& symbols) {
    Symbols inner(&symbols);
    for (auto& [target, value] : s.bindings) collect_target(*target, inner, true);
    collect_body(s.body, inner);
    s.scope = layout(inner);
    for (auto& [target, value] : s.bindings) {
      QUERN_TRY_STATUS(expr(*value, symbols));
      QUERN_TRY_STATUS(expr(*target, inner));
    }
    return scoped(s.body, inner);
  }

  Status for_loop(Stmt& s, const Symbols& symbols) {
    QUERN_TRY_STATUS(expr(*s.value, symbols));
    if (s.test) {
      Symbols test(&symbols);
      collect_target(*s.target, test, true);
      collect_expr(*s.test, test);
      s.test_scope = layout(test);
      QUERN_TRY_STATUS(expr(*s.test, test));
    }
    Symbols inner(&symbols);
    collect_target(*s.target, inner, true);  // first, so that the targets have the places they have in the test's scope
    if (inner.find("loop") && inner.find("loop")->hops == 0)
      return make_error(ErrorCode::invalid_argument,
                        "line {}: Can't assign to special loop variable in for-loop target", s.line);
    if (s.recursive || reads_name(s.body, "loop")) s.loop = inner.declare_parameter("loop");
    collect_body(s.body, inner);
    s.scope = layout(inner);
    QUERN_TRY_STATUS(expr(*s.target, inner));
    QUERN_TRY_STATUS(scoped(s.body, inner));
    Symbols otherwise(&symbols);
    collect_body(s.otherwise, otherwise);
    s.otherwise_scope = layout(otherwise);
    return scoped(s.otherwise, otherwise);
  }

  Status code(MacroCode& c, const Symbols& symbols) {
    Symbols inner(&symbols);
    Undeclared special({"caller", "kwargs", "varargs"});
    special.visit(c.body);
    const auto has_parameter = [&](std::string_view name) {
      return std::any_of(c.parameters.begin(), c.parameters.end(), [&](const Parameter& p) { return p.name == name; });
    };
    for (Parameter& p : c.parameters) p.slot = inner.declare_parameter(p.name);
    c.explicit_caller = has_parameter("caller");
    if (special.found("caller") && !c.explicit_caller) c.caller = inner.declare_parameter("caller");
    if (special.found("kwargs") && !has_parameter("kwargs")) c.kwargs = inner.declare_parameter("kwargs");
    if (special.found("varargs") && !has_parameter("varargs")) c.varargs = inner.declare_parameter("varargs");
    for (Parameter& p : c.parameters)
      if (p.default_value) collect_expr(*p.default_value, inner);
    collect_body(c.body, inner);
    c.scope = layout(inner);
    for (Parameter& p : c.parameters)
      if (p.default_value) QUERN_TRY_STATUS(expr(*p.default_value, inner));
    return scoped(c.body, inner);
  }

  Template& tree_;
  std::set<std::string> free_names_;
  bool avoidable_ = false;
};

}  // namespace

Status resolve_names(Template& tree) { return Resolver(tree).run(); }

}  // namespace quern::jinja
