// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <utility>

#include "quern/engine/core.h"

namespace quern {

/// Facts of engines by model name as Prometheus text (exposition format 0.0.4), each metric with its help and type.
std::string metrics_text(std::span<const std::pair<std::string, EngineFacts>> engines);

}  // namespace quern
