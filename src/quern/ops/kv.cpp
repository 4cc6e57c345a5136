// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/kv.h"

namespace quern {
namespace {
constexpr std::string_view kNames[] = {"f32", "bf16", "int8"};
}

std::string_view kv_type_name(KvType type) { return kNames[static_cast<int>(type)]; }

std::optional<KvType> find_kv_type(std::string_view name) {
  for (int i = 0; i < 3; ++i)
    if (kNames[i] == name) return static_cast<KvType>(i);
  return std::nullopt;
}

}  // namespace quern
