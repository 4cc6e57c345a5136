// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace quern {

/// The numbers of a block beside its codes, as they lie there: nothing is rounded.
struct BlockNumbers {
  uint16_t scale;               ///< bits of a binary16, or an E8M0 exponent
  uint16_t min;                 ///< bits of a binary16; only with minima
  int8_t scales[16], mins[16];  ///< by group; only with kind `super`
};

/// How the scale (and likewise the minimum) of group g follows from a block's numbers.
enum class ScaleKind : uint8_t {
  half,      ///< binary16 `scale`; the block is one group
  exponent,  ///< 2^(scale - 128); the block is one group. The levels are twice E2M1's, hence 128
  super,     ///< binary16 `scale` * scales[g]
};

/// The integer form of a quantized type: element i of a block is  scale(i / group) * value(code[i]) + min(i / group),
/// value(c) = levels ? levels[c] : c - zero. It loses nothing against `decode`, and is all that packing needs to know:
/// a new type is packed and multiplied on every instruction set without touching either.
struct IntegerForm {
  int group;             ///< columns that share a scale: 32, or 16 with kind `super`
  int code_bits;         ///< codes are 0 .. 2^code_bits - 1; 1 to 8, 4 with `levels`
  int zero;              ///< subtracted from every code (0 with `levels`); 128 where there are 8 bits
  const int8_t* levels;  ///< 16 values by code, or null
  bool has_min;          ///< then zero is 0 and there are no levels
  ScaleKind kind;
  bool six_bits;  ///< all of `scales` and `mins` are 0 .. 63, groups have 32 columns, and there are minima
  /// One block: codes[block_elems].
  void (*codes)(const std::byte* block, uint8_t* codes);
  void (*numbers)(const std::byte* block, BlockNumbers& out);
};

/// A weight type of model files. One per file `*.quant.cpp`, constant `quant_<file>`.
struct QuantType {
  std::string_view name;  ///< "Q4_K"
  uint32_t gguf_id;
  int block_elems, block_bytes;
  /// The specification: n_blocks * block_elems floats. Source: the layouts in docs/formats.md.
  void (*decode)(const std::byte* blocks, float* out, int64_t n_blocks);
  /// The reverse, for types that have one (the plain floats; round to nearest even); null elsewhere.
  void (*encode)(const float* in, std::byte* blocks, int64_t n_blocks);
  const IntegerForm* integer;  ///< null for F32, F16, BF16

  int64_t row_bytes(int64_t columns) const { return columns / block_elems * block_bytes; }
};

extern const QuantType* const quant_table[];
extern const int quant_table_size;

/// Null if there is none.
const QuantType* find_quant_type(uint32_t gguf_id);
const QuantType* find_quant_type(std::string_view name);

extern const QuantType quant_f32, quant_f16, quant_bf16;

}  // namespace quern
