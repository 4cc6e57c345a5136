// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/kernel_table.h"

#include "quern/kernels/attention.h"
#include "quern/kernels/delta.h"
#include "quern/kernels/limits.h"
#include "quern/kernels/matmul.h"
#include "quern/kernels/vector.h"

namespace quern {

// Each level's object files export one constant per kernel family; nothing else of them is visible (a test sees to it).
#define QUERN_LEVEL(level)                                         \
  namespace level {                                                \
  extern const MatmulKernels matmul_kernels;                       \
  extern const FloatMatmulKernels float_matmul_kernels;            \
  extern const RoundingKernels rounding_kernels;                   \
  extern const AttentionKernels attention_kernels;                 \
  extern const VectorKernels vector_kernels;                       \
  extern const DeltaKernels delta_kernels;                         \
  extern const LimitKernels limit_kernels;                         \
  }                                                                \
  namespace {                                                      \
  const KernelTable table_##level = {Isa::level,                   \
                                     &level::matmul_kernels,       \
                                     &level::float_matmul_kernels, \
                                     &level::rounding_kernels,     \
                                     &level::attention_kernels,    \
                                     &level::vector_kernels,       \
                                     &level::delta_kernels,        \
                                     &level::limit_kernels};       \
  }

#if defined(__x86_64__)
QUERN_LEVEL(x86_64_v2)
QUERN_LEVEL(avx2)
QUERN_LEVEL(avx512)
#else
QUERN_LEVEL(neon)
#endif

const KernelTable& kernel_table(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::x86_64_v2:
      return table_x86_64_v2;
    case Isa::avx2:
      return table_avx2;
    case Isa::avx512:
      return table_avx512;
    case Isa::neon:
      break;
#else
    case Isa::neon:
      return table_neon;
    default:
      break;
#endif
  }
  check_failed(__FILE__, __LINE__, "kernel_table", "a level this binary does not have");
}

}  // namespace quern
