// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/server/endpoint.h"

namespace quern {

/// GET /props and /v1/props, llama.cpp's: what clients ask of a server before they use it. Of the first model that is
/// in memory.
void answer_props(Exchange&& exchange, Services& services);

}  // namespace quern
