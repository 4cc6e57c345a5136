// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/kernels/isa.h"

namespace quern {

struct MatmulKernels;       // kernels/matmul.h, like the next two: products of integer codes
struct FloatMatmulKernels;  // of floats
struct RoundingKernels;     // of inputs to int8
struct AttentionKernels;    // kernels/attention.h
struct VectorKernels;       // kernels/vector.h: norms, activations, rope, exponentials
struct DeltaKernels;        // kernels/delta.h: causal convolution, delta rule
struct LimitKernels;        // kernels/limits.h: what a machine can do at most

/// All kernels of one level. Chosen once per process and passed down; never a global "current" table.
struct KernelTable {
  Isa isa;
  const MatmulKernels* matmul;
  const FloatMatmulKernels* float_matmul;
  const RoundingKernels* rounding;
  const AttentionKernels* attention;
  const VectorKernels* vector;
  const DeltaKernels* delta;
  const LimitKernels* limits;
};

/// The table of a level that `usable_isas` lists.
const KernelTable& kernel_table(Isa isa);

}  // namespace quern
