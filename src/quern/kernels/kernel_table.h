// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/kernels/isa.h"

namespace quern {

struct MatmulKernels;       // kernels/matmul.h, like the next three: products of integer codes
struct UnpackedKernels;     // of codes taken apart for many tiles
struct FloatMatmulKernels;  // of floats
struct RoundingKernels;     // of inputs to int8
struct AttentionKernels;    // kernels/attention.h
struct VectorKernels;       // kernels/vector.h: norms, activations, rope, exponentials
struct DeltaKernels;        // kernels/delta.h: causal convolution, delta rule
struct LimitKernels;        // kernels/limits.h: what a machine can do at most

/// How attention multiplies where keys and values are bfloat16: as float32, or queries and weights as bfloat16 too
/// (avx512 with BF16).
enum class AttentionForm { f32, bf16 };
std::string_view attention_form_name(AttentionForm form);

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
  const UnpackedKernels* unpacked = nullptr;  ///< where they are faster on this CPU; the bits are the same
  AttentionForm attention_form = AttentionForm::f32;
};

/// The form that is faster on this CPU, by its maker: the instruction runs at twice float32's rate on AMD's (2 x 16
/// pairs per cycle against 2 x 16 products), at half of it on Intel's. Measuring would be no better, and the bits of a
/// text would depend on it.
AttentionForm best_attention_form(Isa isa);
/// f32, and bf16 where this CPU has it with the level.
const std::vector<AttentionForm>& attention_forms(Isa isa);

/// Those of the level, or null. They are faster on CPUs of Intel, whose 512-bit instructions share two ports; on AMD's,
/// which have more, for few types (docs/kernels.md), and the table there has these alone.
const UnpackedKernels* unpacked_kernels(Isa isa);

/// Products of the level that read few tokens' weights as one stream from memory, on every CPU.
const MatmulKernels& matmul_kernels(Isa isa);
/// Those that read two panels at once and ask for them in two stages, or null. On CPUs of Intel they are faster, on
/// AMD's slower. The bits are the same.
const MatmulKernels* two_stream_matmul_kernels(Isa isa);

/// The table of a level that `usable_isas` lists, with the best form of attention or the given one.
const KernelTable& kernel_table(Isa isa);
const KernelTable& kernel_table(Isa isa, AttentionForm form);

}  // namespace quern
