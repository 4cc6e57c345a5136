// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstring>

#include "quern/base/check.h"
#include "quern/ops/matmul.h"
#include "quern/quant/half.h"

namespace quern {
namespace {

constexpr int kBlockColumns = kSuperGroups * kGroupColumns;  // most columns of a block

/// What `Matrix` remembers of an integer form.
struct PanelForm {
  Codes codes;
  Scales scales;
  uint8_t table[16] = {};
  int code_shift = 0;  // added to every code on the way in, so that the zero is that of the codes
};

Codes codes_of(const IntegerForm& form) {
  if (form.levels) {
    const auto [low, high] = std::minmax_element(form.levels, form.levels + 16);
    return *low >= -16 && *high < 16 ? Codes::table : Codes::wide_table;
  }
  return form.code_bits <= 4   ? Codes::nibbles
         : form.code_bits == 5 ? Codes::five_bits
         : form.code_bits == 6 ? Codes::six_bits
                               : Codes::bytes;
}

Scales scales_of(const IntegerForm& form) {
  if (form.kind == ScaleKind::exponent) return Scales::exponent;
  if (form.kind == ScaleKind::half) return form.has_min ? Scales::half_min : Scales::half;
  if (form.six_bits) return Scales::sub_6_min;
  if (form.group == 16) return form.has_min ? Scales::sub_16_min : Scales::sub_16;
  return Scales::sub;
}

PanelForm panel_form(const QuantType& type) {
  const IntegerForm& form = *type.integer;
  PanelForm out{codes_of(form), scales_of(form)};
  if (form.levels)
    for (int i = 0; i < 16; ++i) out.table[i] = static_cast<uint8_t>(form.levels[i] + codes_zero(out.codes));
  else if (!form.has_min)
    out.code_shift = codes_zero(out.codes) - form.zero;
  QUERN_CHECK(type.block_elems == block_groups(out.scales) * kGroupColumns, "blocks of a file are blocks of a panel");
  QUERN_CHECK(out.code_shift >= 0 && out.code_shift + (1 << form.code_bits) <= 256, "codes have room for their zero");
  return out;
}

/// One block of one row on its way: as the panel wants it, in 32-bit words and smaller numbers that still have to be
/// laid beside those of the other rows.
struct BlockRow {
  BlockNumbers numbers;
  uint32_t words[kSuperGroups * 8];  // of codes: group by group, as many as its vectors
};

/// The codes of 32 columns, four in each word, to words of the panel.
template <Codes C>
void pack_codes(const uint32_t* c, uint32_t* out) {
  if constexpr (C == Codes::bytes) {
    std::copy_n(c, 8, out);
    return;
  }
  for (int j = 0; j < 4; ++j) out[j] = (c[j] & 0x0f0f0f0f) | (c[j + 4] & 0x0f0f0f0f) << 4;
  if constexpr (C == Codes::five_bits) {
    uint32_t plane = 0;
    for (int s = 0; s < 8; ++s) plane |= (c[s] >> 4 & 0x01010101) << s;
    out[4] = plane;
  }
  if constexpr (C == Codes::six_bits)
    for (int j = 0; j < 2; ++j) {
      uint32_t plane = 0;
      for (int i = 0; i < 4; ++i) plane |= (c[4 * j + i] >> 4 & 0x03030303) << 2 * i;
      out[4 + j] = plane;
    }
}

template <Codes C>
void pack_block(const QuantType& type, const PanelForm& form, const std::byte* block, BlockRow& out) {
  alignas(16) uint32_t codes[kBlockColumns / 4];
  type.integer->codes(block, reinterpret_cast<uint8_t*>(codes));
  type.integer->numbers(block, out.numbers);
  const int groups = type.block_elems / kGroupColumns;
  if (form.code_shift)
    for (int i = 0; i < groups * 8; ++i) codes[i] += 0x01010101u * form.code_shift;  // no carry: they have room
  for (int g = 0; g < groups; ++g) pack_codes<C>(codes + 8 * g, out.words + g * (code_bytes(C) / 64));
}

using PackBlock = void (*)(const QuantType&, const PanelForm&, const std::byte*, BlockRow&);
constexpr PackBlock kPackBlock[kCodesForms] = {pack_block<Codes::nibbles>,    pack_block<Codes::table>,
                                               pack_block<Codes::wide_table>, pack_block<Codes::five_bits>,
                                               pack_block<Codes::six_bits>,   pack_block<Codes::bytes>};
static_assert(static_cast<int>(Codes::bytes) == kCodesForms - 1);

template <typename T>
void put(std::byte* at, int index, T value) {
  std::memcpy(at + index * sizeof value, &value, sizeof value);
}

/// The three words of sub_6_min; kernels/matmul.h draws them.
void put_six_bits(const BlockNumbers& n, int row, std::byte* out) {
  uint32_t scales = 0, mins = 0, high = 0;
  for (int g = 0; g < kSuperGroups; ++g) {
    const uint32_t scale = static_cast<uint32_t>(n.scales[g]), min = static_cast<uint32_t>(n.mins[g]);
    const int pair = g / 2, odd = g % 2;
    scales |= (scale & 15) << 4 * g;
    mins |= (min & 15) << (4 * pair + 16 * odd);
    high |= scale >> 4 << (4 + 8 * pair + 2 * odd) | min >> 4 << (8 * (pair / 2) + 2 * (pair % 2) + 16 * odd);
  }
  put(out, row, scales);
  put(out, kPanelRows + row, mins);
  put(out, 2 * kPanelRows + row, high);
}

/// The scales of one row at the head of a block of the panel.
void put_scales(const PanelForm& form, const BlockNumbers& n, int row, std::byte* out) {
  if (form.scales == Scales::exponent) {
    // One less: the exponent of a float. Of the two that float32 has as denormals nothing is left, 1e-38.
    put(out, row, static_cast<uint8_t>(std::max<int>(n.scale, 1) - 1));
    return;
  }
  put(out, row, n.scale);
  out += 2 * kPanelRows;
  if (scales_have_min(form.scales)) {
    put(out, row, n.min);
    out += 2 * kPanelRows;
  }
  if (form.scales == Scales::sub_6_min) return put_six_bits(n, row, out);
  if (!scales_have_super(form.scales)) return;
  const int count = scales_are_per_16(form.scales) ? 2 * kSuperGroups : kSuperGroups;
  for (int g = 0; g < count; ++g) put(out, g * kPanelRows + row, n.scales[g]);
  if (scales_have_min(form.scales))
    for (int g = 0; g < count; ++g) put(out, (count + g) * kPanelRows + row, n.mins[g]);
}

/// Where the rows of a panel begin in the file: 16, or fewer in the last panel.
using Rows = std::span<const std::byte* const>;

/// The rows of a panel, block by block: 16 rows of a block are small enough to stay in the first-level cache between
/// the row's order and the panel's. Rows behind the last are zeros already.
void pack_panel(const QuantType& type, const PanelForm& form, Rows from, int64_t n_blocks, std::byte* panel) {
  const int rows = static_cast<int>(from.size());
  const PackBlock pack = kPackBlock[static_cast<int>(form.codes)];
  const int words = block_groups(form.scales) * (code_bytes(form.codes) / 64);
  BlockRow all[kPanelRows];
  for (int64_t b = 0; b < n_blocks; ++b) {
    for (int r = 0; r < rows; ++r) {
      pack(type, form, from[r] + b * type.block_bytes, all[r]);
      put_scales(form, all[r].numbers, r, panel);
    }
    std::byte* codes = panel + scale_bytes(form.scales);
    for (int w = 0; w < words; ++w, codes += 4 * kPanelRows)
      for (int r = 0; r < rows; ++r) put(codes, r, all[r].words[w]);
    panel += block_bytes(form.codes, form.scales);
  }
}

/// Transposes the rows of a panel of plain numbers, a piece at a time so that it stays in the first-level cache.
/// get(row, column, count) gives `count` numbers of a row.
template <typename T, typename Get>
void interleave(int rows, int64_t columns, Get get, std::byte* panel) {
  constexpr int64_t kPiece = 64;
  T* out = reinterpret_cast<T*>(panel);
  T piece[kPiece];
  for (int64_t k = 0; k < columns; k += kPiece) {
    const int64_t count = std::min(kPiece, columns - k);
    for (int r = 0; r < rows; ++r) {
      get(r, k, count, piece);
      for (int64_t i = 0; i < count; ++i) out[(k + i) * kPanelRows + r] = piece[i];
    }
  }
}

FloatForm float_form(const QuantType& type) {
  return &type == &quant_bf16 ? FloatForm::bf16 : &type == &quant_f16 ? FloatForm::f16 : FloatForm::f32;
}

constexpr int float_bytes(FloatForm form) { return form == FloatForm::f32 ? 4 : 2; }

int64_t panel_bytes_of(const QuantType& type, int64_t columns) {
  if (!type.integer) return columns * kPanelRows * float_bytes(float_form(type));
  const PanelForm form = panel_form(type);
  return panel_bytes(form.codes, form.scales, columns / kGroupColumns);
}

}  // namespace

struct MatrixPacking {
  static Matrix make(const TensorView& tensor, int64_t rows, const KernelTable& kernels) {
    Matrix m;
    m.rows_ = rows;
    m.columns_ = tensor.shape.columns();
    m.panel_bytes_ = panel_bytes_of(*tensor.type, m.columns_);
    m.kernels_ = &kernels;
    return m;
  }

  /// Calls pack(rows, panel memory) for every panel, on all threads. A last panel of fewer than 16 rows keeps zeros.
  template <typename Pack>
  static void fill(Matrix& m, const TensorView& tensor, const RowPattern& pattern, Pool& pool, Pack pack) {
    // Throws where there is no address space: before the region, whose workers must not.
    m.memory_ = WeightMemory(m.bytes());
    pool.run([&](const Worker& worker) {
      const auto [begin, end] = worker.share(m.panels());
      for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t first = panel * kPanelRows;
        const int count = static_cast<int>(std::min<int64_t>(kPanelRows, m.rows_ - first));
        const std::byte* rows[kPanelRows];
        for (int r = 0; r < count; ++r) rows[r] = tensor.row(pattern.row(first + r)).data();
        pack(Rows(rows, count), m.memory_.data() + panel * m.panel_bytes_);
      }
    });
  }

  static void pack_integers(Matrix& m, const TensorView& tensor, const RowPattern& pattern, Pool& pool) {
    const QuantType& type = *tensor.type;
    const PanelForm form = panel_form(type);
    QUERN_CHECK(m.kernels_->matmul->tile[static_cast<int>(form.codes)][static_cast<int>(form.scales)][0],
                "kernels have a tile for every weight type");
    m.integer_ = true;
    m.codes_ = form.codes;
    m.scales_ = form.scales;
    std::copy(std::begin(form.table), std::end(form.table), m.table_);
    const int64_t n_blocks = m.columns_ / type.block_elems;
    fill(m, tensor, pattern, pool, [&](Rows rows, std::byte* panel) { pack_panel(type, form, rows, n_blocks, panel); });
  }

  static void pack_floats(Matrix& m, const TensorView& tensor, const RowPattern& pattern, Pool& pool) {
    const QuantType& type = *tensor.type;
    m.floats_ = float_form(type);
    fill(m, tensor, pattern, pool, [&](Rows rows, std::byte* panel) {
      const int n = static_cast<int>(rows.size());
      if (m.floats_ != FloatForm::f32) {
        const auto copy = [&](int r, int64_t k, int64_t count, uint16_t* out) {
          std::memcpy(out, rows[r] + k * 2, count * 2);
        };
        return interleave<uint16_t>(n, m.columns_, copy, panel);
      }
      const auto decode = [&](int r, int64_t k, int64_t count, float* out) {
        type.decode(rows[r] + k * type.block_bytes, out, count);
      };
      interleave<float>(n, m.columns_, decode, panel);
    });
  }
};

int64_t Matrix::packed_bytes(const QuantType& type, int64_t rows, int64_t columns) {
  return panels_of(rows) * panel_bytes_of(type, columns);
}

Matrix Matrix::pack(const TensorView& tensor, const KernelTable& kernels, Pool& pool) {
  const int64_t rows = tensor.shape.rows();
  return pack(tensor, RowPattern{.first = 0, .run = rows, .step = rows, .rows = rows}, kernels, pool);
}

Matrix Matrix::pack(const TensorView& tensor, const RowPattern& rows, const KernelTable& kernels, Pool& pool) {
  const QuantType& type = *tensor.type;
  QUERN_CHECK(tensor.shape.columns() % type.block_elems == 0, "rows are whole blocks");
  QUERN_CHECK(type.integer || type.block_elems == 1, "a type of blocks has an integer form");
  QUERN_CHECK(rows.rows == 0 || rows.row(rows.rows - 1) < tensor.shape.rows(), "rows are rows of the tensor");
  Matrix m = MatrixPacking::make(tensor, rows.rows, kernels);
  if (type.integer)
    MatrixPacking::pack_integers(m, tensor, rows, pool);
  else
    MatrixPacking::pack_floats(m, tensor, rows, pool);
  return m;
}

Matrix Matrix::pack(std::span<const float> values, int64_t rows, int64_t columns, const KernelTable& kernels,
                    Pool& pool) {
  QUERN_CHECK(static_cast<int64_t>(values.size()) == rows * columns, "as many values as the shape says");
  TensorView view;
  view.type = &quant_f32;
  view.shape = Shape{columns, rows};
  view.data = std::as_bytes(values);
  return pack(view, kernels, pool);
}

}  // namespace quern
