// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/base/result.h"
#include "quern/chat/jinja/ast.h"

namespace quern::jinja {

/// Trees are at most so deep: what walks them may recurse.
inline constexpr int kMaxTreeHeight = 200;

/// Reads a template as Jinja2 does (with the loopcontrols extension and the `generation` tag). Names are not resolved
/// yet. Errors say the line and what was expected there.
Result<Template> parse(std::string_view source);

}  // namespace quern::jinja
