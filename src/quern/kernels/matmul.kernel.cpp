// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/matmul_tile.h"

namespace quern::QUERN_ISA {

extern const MatmulKernels matmul_kernels;
constinit const MatmulKernels matmul_kernels = make_table<Streams::one>();

}  // namespace quern::QUERN_ISA
