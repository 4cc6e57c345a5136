// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "quern/base/json.h"
#include "quern/chat/jinja/ast.h"
#include "quern/chat/jinja/runtime.h"

namespace quern::jinja {

/// Renders a template whose names are resolved. Strings of the context below the keys in `user_keys` are user text.
Result<Text> render(const Template& tree, const Json& context, std::span<const std::string_view> user_keys,
                    Runtime& rt);

}  // namespace quern::jinja
