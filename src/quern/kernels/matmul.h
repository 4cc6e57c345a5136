// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace quern {

// A weight matrix is cut into panels of 16 rows, and those into groups of 32 columns; 8 groups are a block where
// numbers are shared by 256 columns, else a group is a block. A panel is one piece of memory, read from front to back:
// for each block its scales, then the codes of its groups. docs/kernels.md draws it.
inline constexpr int kPanelRows = 16;
inline constexpr int kGroupColumns = 32;
inline constexpr int kSuperGroups = 8;

/// How the codes of a group lie in memory. Vector j is 64 bytes, byte 4 r + b of it belongs to row r; step s is the
/// columns 4 s + b.
///   four bits, vectors 0 .. 3: low nibbles steps 0 .. 3, high nibbles steps 4 .. 7
///   fifth bit, vector 4: bit s of a byte is that of step s
///   fifth and sixth bit, vectors 4 and 5: bits 2 i, 2 i + 1 of vector 4 + j are those of step 4 j + i
///   eight bits, vectors 0 .. 7: steps 0 .. 7
/// The weight is scale * (code - zero), or scale * code + min, with a table: scale * (table[code] - zero).
enum class Codes : uint8_t {
  nibbles,     ///< 0 .. 15
  table,       ///< 16 values 0 .. 31
  wide_table,  ///< 16 values 0 .. 255
  five_bits,   ///< 0 .. 31
  six_bits,    ///< 0 .. 63
  bytes,       ///< 0 .. 255
};
inline constexpr int kCodesForms = 6;

/// Scales of a block, 16 rows each; minima where the name says so, and then zero is 0.
enum class Scales : uint8_t {
  half,        ///< binary16 per group
  half_min,    ///< the same, then the minima
  exponent,    ///< one byte e per group: 2^(e - 127), 0 for e = 0
  sub,         ///< per 256 columns binary16 d, then int8 per group
  sub_16,      ///< per 256 columns binary16 d, then int8 per 16 columns (two per row and group)
  sub_16_min,  ///< per 256 columns binary16 d and dmin, then int8 scales and int8 minima per 16 columns
  sub_6_min,   ///< per 256 columns binary16 d and dmin, then eight 6-bit scales and minima in three words per row
};
inline constexpr int kScalesForms = 7;
// The words of sub_6_min, group g, pair i = groups 2 i and 2 i + 1; each word a vector over the rows:
//   scales    bits 4 g .. 4 g + 3: the lower four of scale g
//   minima    lower half, bits 4 i ..: the lower four of minimum 2 i; upper half: of minimum 2 i + 1
//   high      the upper two: of scale g from bit 4 + 8 (g / 2) + 2 (g % 2) on, of minimum 2 i from bit
//             8 (i / 2) + 2 (i % 2) on, of minimum 2 i + 1 from 16 more
// So four bytes of the lower and the upper bits make up the scales of the even groups, the other bits those of the odd.

constexpr bool codes_have_table(Codes c) { return c == Codes::table || c == Codes::wide_table; }
constexpr int codes_zero(Codes c) {
  return c == Codes::nibbles ? 8 : c == Codes::table || c == Codes::five_bits ? 16 : c == Codes::six_bits ? 32 : 128;
}
constexpr bool scales_have_min(Scales s) {
  return s == Scales::half_min || s == Scales::sub_16_min || s == Scales::sub_6_min;
}
constexpr bool scales_have_super(Scales s) { return s >= Scales::sub; }
constexpr bool scales_are_per_16(Scales s) { return s == Scales::sub_16 || s == Scales::sub_16_min; }

constexpr int code_bytes(Codes c) {
  return kPanelRows * 4 * (c == Codes::bytes ? 8 : c == Codes::six_bits ? 6 : c == Codes::five_bits ? 5 : 4);
}
/// Scales in front of a block.
constexpr int scale_bytes(Scales s) {
  const int per_row = s == Scales::half         ? 2
                      : s == Scales::half_min   ? 4
                      : s == Scales::exponent   ? 1
                      : s == Scales::sub        ? 2 + kSuperGroups
                      : s == Scales::sub_16     ? 2 + 2 * kSuperGroups
                      : s == Scales::sub_16_min ? 4 + 4 * kSuperGroups
                                                : 4 + 12;
  return kPanelRows * per_row;
}
constexpr int block_groups(Scales s) { return scales_have_super(s) ? kSuperGroups : 1; }
constexpr int block_bytes(Codes c, Scales s) { return scale_bytes(s) + block_groups(s) * code_bytes(c); }
/// `groups` is a multiple of block_groups.
constexpr int64_t panel_bytes(Codes c, Scales s, int64_t groups) {
  return groups / block_groups(s) * block_bytes(c, s);
}

/// Where a product goes: rows x tokens.
struct PanelOutput {
  float* y;  ///< row r of token t: y[t * stride + r]
  int64_t stride;
  int rows;           ///< of all panels of the tile; others are not touched
  const float* bias;  ///< [rows] or null
  bool add;           ///< to what y holds
};

/// One or more neighbouring panels times one tile of tokens.
struct IntegerTile {
  const std::byte* panel;
  int64_t panel_bytes;      ///< the next panel begins there
  const std::byte* inputs;  ///< the tile as `round` laid it out
  int64_t groups;           ///< columns / 32
  const uint8_t* table;     ///< [16], or null
  PanelOutput out;
  /// The panels that are read after these, as large: their first lines are asked for meanwhile. Any address will do.
  const std::byte* next;
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

/// Inputs rounded to int8: columns that share a scale.
enum class InputForm : uint8_t { per_32, per_128 };
inline constexpr int kInputForms = 2;
constexpr InputForm input_form(Scales s) { return scales_have_super(s) ? InputForm::per_128 : InputForm::per_32; }
constexpr int input_columns(InputForm f) { return f == InputForm::per_32 ? 32 : 128; }
/// A sum of products with few columns becomes a float without a conversion where it is added to these bits, those of
/// 1.5 * 2^23: as a float it is that much too large, exactly, as long as |sum| < 2^22.
inline constexpr int32_t kOffsetBits = 0x4b400000;
inline constexpr float kOffset = 0x1.8p23f;
/// Bytes of one token and `input_columns` in a tile of T tokens, which holds them in this order:
///   per_32:  int8 q[T][32]; float d[T]; float offset_d[T] = -kOffset * d; float d_sum[T] = d * sum of q;
///            int32 starts[3][T], kOffsetBits less 8, 16 and 128 times the sum of q
///   per_128: int8 q[4][T][32]; int16 pairs[T][4], sums of 32 columns; float d[T]; int16 sums[4][T][2], of 16 columns;
///            int32 starts[4][3][T], -32 times the sums of columns 0 .. 15 and 16 .. 31, -128 times that of 0 .. 31
constexpr int input_bytes(InputForm f) { return f == InputForm::per_32 ? 56 : 204; }
/// Of |q| of 16 columns, per_128: six bits less 32 times them, and four bits times twice as many, fit 16 bits.
inline constexpr int kMostMagnitude16 = 1023;
/// No level's tiles are larger.
inline constexpr int kMostTileTokens = 8;

/// A token's bits depend on its inputs and the weights, not on the tile it is in, on every level. Between levels they
/// differ in the rounding of fused multiply-adds, which the lowest level does not have, in large sums of IQ4_XS
/// (docs/kernels.md), and where a broken file has an infinite dmin: NaN, on the lowest level perhaps an infinity.
struct MatmulKernels {
  using Tile = void (*)(const IntegerTile&);
  /// Few tokens are one tile of up to `tokens`; more are cut into tiles of up to `many_tokens`, which may be fewer and
  /// do more panels at a time.
  int tokens, many_tokens;
  /// [tokens - 1]: panels that one call takes at most.
  int panels[kMostTileTokens];
  /// [form][form][tokens - 1]; null where no weight type is like that.
  Tile tile[kCodesForms][kScalesForms][kMostTileTokens];
};

/// 256 columns of a panel, or those left at its end, taken apart for many tiles. `codes` are unsigned bytes in the
/// order of Codes::bytes. What the form of the scales has no use for is left as it was.
struct alignas(64) UnpackedBlock {
  std::byte codes[kSuperGroups][8][kPanelRows * 4];  ///< [group][four columns]
  /// Of a group, or of each 16 columns: floats, or integers as `ScaledDot` wants them.
  std::byte scales[kSuperGroups][2][kPanelRows * 4];
  float numbers[3][kPanelRows];  ///< d and dmin of 256 columns, -kOffset * dmin
  /// Minima: floats of a group; of sub_16_min int16 pairs of its halves; of sub_6_min pairs of two groups each.
  std::byte mins[kSuperGroups][kPanelRows * 4];
};

/// The same columns of one or more neighbouring panels times one tile of tokens.
struct UnpackedTile {
  const UnpackedBlock* blocks;  ///< [panels]
  int panels;
  int groups;               ///< 32 columns each, at most `kSuperGroups`
  const std::byte* inputs;  ///< these columns of the tile, as `round` laid it out
  const std::byte* next;    ///< those of the tile after it, which are fetched meanwhile; any address will do
  float* sums;              ///< [panels][tokens][16] of all columns before, to which these are added
};

/// For CPUs that have no instruction ports to spare for taking weights apart again for every tile.
struct UnpackedKernels {
  using Tile = void (*)(const UnpackedTile&);
  int panels;                 ///< that one call takes at most
  int least_tile, most_tile;  ///< tokens
  /// [form][form], as `tile` null where no weight type is like that. `columns`: the panel, where these begin.
  void (*unpack[kCodesForms][kScalesForms])(const std::byte* columns, int groups, const uint8_t* table,
                                            UnpackedBlock& to);
  /// [form][form][tokens - 1]. The bits of MatmulKernels::tile.
  Tile tile[kCodesForms][kScalesForms][kMostTileTokens];
  /// Sums [panels][tokens][16] to where the product goes.
  void (*write)(const float* sums, int tokens, const PanelOutput& out);
};

struct FloatMatmulKernels {
  using Tile = void (*)(const FloatTile&);
  int tokens;  ///< most of a tile
  Tile tile[kFloatForms][kMostTileTokens];
};

struct RoundingKernels {
  /// Rounds `columns` of one token, whole input_columns, into place `token` of a tile of `tokens` (at its first
  /// column). d = L / 127, q = x * (127 / L) rounded to nearest even. L is the largest |x|; per_128 it is 127 / 1015
  /// times the largest sum of |x| in 16 columns, where that is more, so that kMostMagnitude16 holds. Columns that share
  /// a d are zero where L is below 2^-100; where it is 2^100 or more, or one is a NaN, d = NaN. per_32 the two last
  /// bits of d are zero, so that kOffset * d is exact. The same bits on every level.
  void (*round[kInputForms])(const float* x, int64_t columns, int tokens, int token, std::byte* tile);
};

}  // namespace quern
