// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/kernel_table.h"

#include <algorithm>

#include "quern/kernels/attention.h"
#include "quern/kernels/delta.h"
#include "quern/kernels/limits.h"
#include "quern/kernels/matmul.h"
#include "quern/kernels/vector.h"

namespace quern {

// Each object file of a level exports one constant; nothing else of them is visible (a test sees to it).
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
QUERN_LEVEL(avx_vnni)
QUERN_LEVEL(avx512)
namespace avx512 {
extern const MatmulKernels two_stream_matmul_kernels;
extern const UnpackedKernels unpacked_kernels;
}  // namespace avx512
namespace avx512_bf16 {
extern const PairedAttentionKernels paired_attention_kernels;
}
#else
QUERN_LEVEL(neon)
#endif

const UnpackedKernels* unpacked_kernels([[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return &avx512::unpacked_kernels;
#endif
  return nullptr;
}

const MatmulKernels* two_stream_matmul_kernels([[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return &avx512::two_stream_matmul_kernels;
#endif
  return nullptr;
}

namespace {
#if defined(__x86_64__)
/// For CPUs whose products leave ports to instructions that unpack: of Q4_K, Q5_K and Q6_K, which need the most.
const UnpackedKernels& few_unpacked_kernels() {
  static const UnpackedKernels few = [] {
    const UnpackedKernels& all = avx512::unpacked_kernels;
    UnpackedKernels kernels = {.panels = all.panels,
                               .least_tile = all.least_tile,
                               .most_tile = all.most_tile,
                               .unpack = {},
                               .tile = {},
                               .write = all.write};
    const auto take = [&](Codes codes, Scales scales) {
      const int c = static_cast<int>(codes), s = static_cast<int>(scales);
      kernels.unpack[c][s] = all.unpack[c][s];
      std::ranges::copy(all.tile[c][s], kernels.tile[c][s]);
    };
    take(Codes::nibbles, Scales::sub_6_min);
    take(Codes::five_bits, Scales::sub_6_min);
    take(Codes::six_bits, Scales::sub_16);
    return kernels;
  }();
  return few;
}

/// What is faster on this CPU.
KernelTable of_this_cpu(const KernelTable& level) {
  KernelTable table = level;
  if (level.isa == Isa::avx512) table.unpacked = &few_unpacked_kernels();
  __builtin_cpu_init();
  if (!__builtin_cpu_is("intel")) return table;
  table.unpacked = unpacked_kernels(level.isa);
  if (const MatmulKernels* two = two_stream_matmul_kernels(level.isa)) table.matmul = two;
  return table;
}
#endif

/// The same on every CPU.
const KernelTable& plain_table(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::x86_64_v2:
      return table_x86_64_v2;
    case Isa::avx2:
      return table_avx2;
    case Isa::avx_vnni:
      return table_avx_vnni;
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

const KernelTable& level_table(Isa isa) {
#if defined(__x86_64__)
  static const std::vector<KernelTable> tables = [] {
    std::vector<KernelTable> of_cpu;
    for (const Isa usable : usable_isas()) of_cpu.push_back(of_this_cpu(plain_table(usable)));
    return of_cpu;
  }();
  for (const KernelTable& table : tables)
    if (table.isa == isa) return table;
#endif
  return plain_table(isa);
}
}  // namespace

const MatmulKernels& matmul_kernels(Isa isa) { return *plain_table(isa).matmul; }

std::string_view attention_form_name(AttentionForm form) { return form == AttentionForm::bf16 ? "bf16" : "f32"; }

namespace {
/// Whether this CPU and the operating system multiply pairs of bfloat16: not all do that run avx512.
bool has_bf16_products([[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return isa == Isa::avx512 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}
}  // namespace

AttentionForm best_attention_form(Isa isa) {
#if defined(__x86_64__)
  if (has_bf16_products(isa) && __builtin_cpu_is("amd")) return AttentionForm::bf16;
#endif
  return AttentionForm::f32;
}

const std::vector<AttentionForm>& attention_forms(Isa isa) {
  static const std::vector<AttentionForm> one = {AttentionForm::f32}, both = {AttentionForm::f32, AttentionForm::bf16};
  return has_bf16_products(isa) ? both : one;
}

const KernelTable& kernel_table(Isa isa, AttentionForm form) {
  if (form == AttentionForm::f32) return level_table(isa);
  QUERN_CHECK(has_bf16_products(isa), "attention in bfloat16 needs AVX512_BF16");
  static const AttentionKernels attention = [] {
    AttentionKernels kernels = *level_table(Isa::avx512).attention;
#if defined(__x86_64__)
    kernels.attend_bf16 = avx512_bf16::paired_attention_kernels.attend_bf16;
#endif
    return kernels;
  }();
  static const KernelTable table = [] {
    KernelTable bf16 = level_table(Isa::avx512);
    bf16.attention_form = AttentionForm::bf16;
    bf16.attention = &attention;
    return bf16;
  }();
  return table;
}

const KernelTable& kernel_table(Isa isa) { return kernel_table(isa, best_attention_form(isa)); }

}  // namespace quern
