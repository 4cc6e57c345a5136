// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/limits.h"

#include "quern/base/check.h"

namespace quern {

#if defined(__x86_64__)
namespace x86_64_v2 {
extern const LimitKernels limit_kernels;
}
namespace avx2 {
extern const LimitKernels limit_kernels;
}
namespace avx512 {
extern const LimitKernels limit_kernels;
}
#else
namespace neon {
extern const LimitKernels limit_kernels;
}
#endif

const LimitKernels& limit_kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::x86_64_v2:
      return x86_64_v2::limit_kernels;
    case Isa::avx2:
      return avx2::limit_kernels;
    case Isa::avx512:
      return avx512::limit_kernels;
    case Isa::neon:
      break;
#else
    case Isa::neon:
      return neon::limit_kernels;
    default:
      break;
#endif
  }
  check_failed(__FILE__, __LINE__, "limit_kernels", "a level this binary does not have");
}

}  // namespace quern
