// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/delta.h"

namespace quern::QUERN_ISA {

extern const DeltaKernels delta_kernels;
const DeltaKernels delta_kernels = {};

}  // namespace quern::QUERN_ISA
