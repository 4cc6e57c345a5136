// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/attention.h"

namespace quern::QUERN_ISA {

extern const AttentionKernels attention_kernels;
const AttentionKernels attention_kernels = {};

}  // namespace quern::QUERN_ISA
