// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/isa.h"

#include <fmt/ranges.h>

namespace quern {
namespace {

#if defined(__x86_64__)
constexpr Isa kLevels[] = {Isa::x86_64_v2, Isa::avx2, Isa::avx_vnni, Isa::avx512};

/// __builtin_cpu_supports also asks the operating system whether it saves the registers.
bool runs_here(Isa isa) {
  __builtin_cpu_init();
  switch (isa) {
    case Isa::x86_64_v2:
      return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
             __builtin_cpu_supports("bmi2");
    case Isa::avx_vnni:
      return runs_here(Isa::avx2) && __builtin_cpu_supports("avxvnni");
    case Isa::avx512:
      return runs_here(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
    case Isa::neon:
      return false;
  }
  return false;
}
#else
constexpr Isa kLevels[] = {Isa::neon};
bool runs_here(Isa isa) { return isa == Isa::neon; }
#endif

}  // namespace

std::string_view isa_name(Isa isa) {
  static constexpr std::string_view names[] = {"x86-64-v2", "avx2", "avx-vnni", "avx512", "neon"};
  return names[static_cast<int>(isa)];
}

const std::vector<Isa>& usable_isas() {
  static const std::vector<Isa> usable = [] {
    std::vector<Isa> out;
    for (Isa isa : kLevels)
      if (runs_here(isa)) out.push_back(isa);
    return out;
  }();
  return usable;
}

Result<Isa> find_isa(std::string_view name) {
  std::vector<std::string_view> names;
  for (Isa isa : usable_isas()) {
    if (isa_name(isa) == name) return isa;
    names.push_back(isa_name(isa));
  }
  return make_error(ErrorCode::unsupported, "instruction set: expected one of {}, found '{}'", fmt::join(names, ", "),
                    name);
}

}  // namespace quern
