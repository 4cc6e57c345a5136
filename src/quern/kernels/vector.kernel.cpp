// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/vector.h"

namespace quern::QUERN_ISA {

extern const VectorKernels vector_kernels;
const VectorKernels vector_kernels = {};

}  // namespace quern::QUERN_ISA
