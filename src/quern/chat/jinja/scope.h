// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/base/result.h"
#include "quern/chat/jinja/ast.h"

namespace quern::jinja {

/// Gives every name its place, by Jinja2's rules: they are lexical, and decided before anything runs. A loop body, a
/// macro, a `with`, a captured block is a scope; an `if` is not. A name first read and later set in a scope starts with
/// the outer value; one first set starts with nothing, or, when only a branch sets it, with the outer value.
/// Also refuses filters and tests that do not exist, as Jinja2 does: at once, unless a branch may avoid them.
Status resolve_names(Template& tree);

}  // namespace quern::jinja
