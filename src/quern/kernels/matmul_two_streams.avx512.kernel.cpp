// SPDX-License-Identifier: Apache-2.0

// For CPUs that read two streams from memory faster than one, and wait for more lines in the second-level cache than in
// the first.

#include "quern/kernels/matmul_tile.h"

namespace quern::QUERN_ISA {

extern const MatmulKernels two_stream_matmul_kernels;
constinit const MatmulKernels two_stream_matmul_kernels = make_table<Streams::two>();

}  // namespace quern::QUERN_ISA
