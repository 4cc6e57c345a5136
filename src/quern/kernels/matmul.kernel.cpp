// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/matmul.h"

namespace quern::QUERN_ISA {

extern const MatmulKernels matmul_kernels;
const MatmulKernels matmul_kernels = {};

}  // namespace quern::QUERN_ISA
