// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace quern {

// A weight matrix is cut into panels of 16 rows, and those into groups of 32 columns. A panel is one piece of memory,
// read from front to back: for each group its scales, its minima (if any), its codes. docs/kernels.md draws it.
inline constexpr int kPanelRows = 16;
inline constexpr int kGroupColumns = 32;

/// How the codes of a group lie in memory. Vector j is 64 bytes, byte 4 r + b of it belongs to row r.
///   4-bit forms, j < 4: low nibble column 4 j + b, high nibble column 16 + 4 j + b.
///   8-bit forms, j < 8: column 4 j + b.
/// The weight is scale * (code - zero), or scale * code + min, with a table: scale * (table[code] - zero).
enum class Codes : uint8_t {
  nibbles,     ///< 0 .. 15
  table,       ///< table values 0 .. 31
  wide_table,  ///< table values 0 .. 255, zero = 128
  bytes,       ///< 0 .. 63
  wide_bytes,  ///< 0 .. 255, zero = 128
};
inline constexpr int kCodesForms = 5;

/// Scales and minima of a group, 16 rows each: as binary16; as float32; or as int8 that multiply one float32 of the row
/// per 256 columns, for 32 or 16 columns. With minima zero is 0.
enum class Scales : uint8_t { half, half_min, single, single_min, sub, sub_min, sub_16, sub_16_min };
inline constexpr int kScalesForms = 8;
/// Groups that share the numbers in front of the first of them: scales [16], minima [16].
inline constexpr int kSuperGroups = 8;

constexpr bool codes_are_bytes(Codes c) { return c == Codes::bytes || c == Codes::wide_bytes; }
constexpr bool codes_have_table(Codes c) { return c == Codes::table || c == Codes::wide_table; }
constexpr bool scales_have_min(Scales s) { return static_cast<int>(s) % 2 == 1; }
constexpr bool scales_are_half(Scales s) { return s == Scales::half || s == Scales::half_min; }
constexpr bool scales_have_super(Scales s) { return s >= Scales::sub; }
/// Scales per row and group of 32 columns.
constexpr int scales_per_group(Scales s) { return s >= Scales::sub_16 ? 2 : 1; }

constexpr int code_bytes(Codes c) { return kPanelRows * kGroupColumns / (codes_are_bytes(c) ? 1 : 2); }
constexpr int scale_bytes(Scales s) {
  return kPanelRows * scales_per_group(s) * (scales_have_super(s) ? 1 : scales_are_half(s) ? 2 : 4);
}
constexpr int group_bytes(Codes c, Scales s) { return scale_bytes(s) * (scales_have_min(s) ? 2 : 1) + code_bytes(c); }
constexpr int super_bytes(Scales s) { return scales_have_super(s) ? kPanelRows * 4 * (scales_have_min(s) ? 2 : 1) : 0; }
/// `groups` is a multiple of 8 where 8 share numbers.
constexpr int64_t panel_bytes(Codes c, Scales s, int64_t groups) {
  return groups * group_bytes(c, s) + groups / kSuperGroups * super_bytes(s);
}

/// Where a product goes: rows x tokens.
struct PanelOutput {
  float* y;  ///< row r of token t: y[t * stride + r]
  int64_t stride;
  int rows;           ///< 1 .. 16; the others are not touched
  const float* bias;  ///< [rows] or null
  bool add;           ///< to what y holds
};

/// One panel times one tile of tokens.
struct IntegerTile {
  const std::byte* panel;
  const std::byte* inputs;  ///< the tile as `quantize` laid it out
  int64_t groups;           ///< columns / 32
  int zero;
  const uint8_t* table;  ///< [16], or null
  PanelOutput out;
};

/// Plain floats: panel[k][16 rows].
struct FloatTile {
  const std::byte* panel;
  const float* x;  ///< column k of token t: x[t * x_stride + k]
  int64_t x_stride, columns;
  PanelOutput out;
};

enum class FloatForm : uint8_t { f32, bf16, f16 };
inline constexpr int kFloatForms = 3;

/// Bytes of one token and group of 32 columns in a tile of inputs. The group of T tokens is, in this order:
///   int8 q[T][32]; float d[T]; int16 sums[T][2]; float d_sum[T], d_sum_low[T], d_sum_high[T]
/// sums: of columns 0..15 and 16..31; d_sum: d * (both sums).
inline constexpr int kInputGroupBytes = 52;
/// No level's tiles are larger.
inline constexpr int kMostTileTokens = 16;

/// A token's bits depend on its inputs and the weights, not on the tile it is in, on every level. Between levels they
/// differ in the rounding of fused multiply-adds, which the lowest level does not have.
struct MatmulKernels {
  /// Most tokens of a tile.
  int integer_tokens, float_tokens;
  /// This level reads binary16 (scales and weights); else they are packed as float32.
  bool reads_half;

  using Integer = void (*)(const IntegerTile&);
  using Float = void (*)(const FloatTile&);
  /// [form][form][tokens - 1]; null for a table with minima and for wide codes with minima.
  Integer integer[kCodesForms][kScalesForms][kMostTileTokens];
  Float floats[kFloatForms][kMostTileTokens];

  /// Rounds `groups` groups of one token, x[32 groups], into place `token` of a tile of `tokens` (at its first group).
  /// d = max|x| / 127, q = x * (127 / max|x|) rounded to nearest even; a group below 2^-100 is zero; one with an
  /// infinity or a NaN has d = NaN. The same bits on every level.
  void (*quantize)(const float* x, int64_t groups, int tokens, int token, std::byte* tile);
};

}  // namespace quern
