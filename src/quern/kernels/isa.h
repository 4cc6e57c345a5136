// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "quern/base/result.h"

namespace quern {

/// Instruction-set levels that kernels are compiled for, in rising order on one architecture.
enum class Isa { x86_64_v2, avx2, avx_vnni, avx512, neon };

/// "x86-64-v2", "avx2", "avx-vnni" (AVX2 and its form of VNNI), "avx512" (with VNNI), "neon".
std::string_view isa_name(Isa isa);

/// The level of that name, if this binary has it and this CPU and operating system can run it; else an error that
/// names the levels that can.
Result<Isa> find_isa(std::string_view name);

/// Levels of this binary that this machine runs, lowest first. Never empty: a machine below the baseline is refused by
/// main.
const std::vector<Isa>& usable_isas();

inline Isa best_isa() { return usable_isas().back(); }

}  // namespace quern
