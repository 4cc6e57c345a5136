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
constexpr int kWords = kGroupColumns / 4;                    // 32-bit words of codes of one row and group

/// What `Matrix` remembers of an integer form.
struct PanelForm {
  Codes codes;
  Scales scales;
  int zero = 0;
  uint8_t table[16] = {};
  int code_shift = 0;  // added to every code on the way in
};

Codes codes_of(const IntegerForm& form, PanelForm& out) {
  if (form.levels) {
    const auto [low, high] = std::minmax_element(form.levels, form.levels + 16);
    // Unsigned values without loss: all moved up by `zero`.
    const bool wide = *high - *low > 31;
    out.zero = wide ? 128 : -std::min<int>(*low, 0);
    for (int i = 0; i < 16; ++i) out.table[i] = static_cast<uint8_t>(form.levels[i] + out.zero);
    return wide ? Codes::wide_table : Codes::table;
  }
  out.zero = form.zero;
  if (form.code_bits <= 4) return Codes::nibbles;
  if (form.code_bits <= 6) return Codes::bytes;
  out.zero = 128;
  out.code_shift = 128 - form.zero;
  return Codes::wide_bytes;
}

Scales scales_of(const IntegerForm& form, bool reads_half) {
  if (form.group == 16) return form.has_min ? Scales::sub_16_min : Scales::sub_16;
  if (form.split_scales) return form.has_min ? Scales::sub_min : Scales::sub;
  if (form.half_scales && reads_half) return form.has_min ? Scales::half_min : Scales::half;
  return form.has_min ? Scales::single_min : Scales::single;
}

PanelForm panel_form(const IntegerForm& form, int64_t block_elems, bool reads_half) {
  PanelForm out;
  out.codes = codes_of(form, out);
  out.scales = scales_of(form, reads_half);
  QUERN_CHECK(form.group == 32 || (form.group == 16 && form.split_scales),
              "scales cover 32 columns, or 16 with a number");
  QUERN_CHECK(block_elems <= kBlockColumns, "blocks have at most 256 columns");
  QUERN_CHECK(!form.has_min || out.zero == 0, "codes have a minimum or a zero");
  QUERN_CHECK(out.codes != Codes::wide_bytes || (out.code_shift >= 0 && out.code_shift < 128),
              "values of 8-bit codes are int8");
  return out;
}

/// One row of a panel, block by block; `row` is 0 .. 15. Workers make it inside a region: it allocates nothing.
class RowPacker {
 public:
  RowPacker(const QuantType& type, const PanelForm& form)
      : type_(type), form_(form), scale_count_(type.block_elems / type.integer->group) {}

  void pack(const std::byte* blocks, int64_t n_blocks, int row, std::byte* panel) {
    for (int64_t b = 0; b < n_blocks; ++b, blocks += type_.block_bytes) {
      type_.integer->split(blocks, codes_.data(), scales_.data(), mins_.data());
      if (form_.code_shift)
        for (int i = 0; i < type_.block_elems; ++i) codes_[i] = static_cast<uint8_t>(codes_[i] + form_.code_shift);
      if (scales_have_super(form_.scales)) panel = put_super(blocks, row, panel);
      for (int g = 0; g < type_.block_elems / kGroupColumns; ++g, panel += group_bytes(form_.codes, form_.scales))
        put_group(g, row, panel);
    }
  }

 private:
  /// The row's numbers for 256 columns, and what multiplies them in place of the scales.
  std::byte* put_super(const std::byte* block, int row, std::byte* out) {
    float numbers[2];
    int8_t scales[2 * kSuperGroups], mins[2 * kSuperGroups];
    type_.integer->split_scales(block, &numbers[0], &numbers[1], scales, mins);
    std::memcpy(out + row * 4, &numbers[0], 4);
    if (scales_have_min(form_.scales)) std::memcpy(out + (kPanelRows + row) * 4, &numbers[1], 4);
    std::copy_n(scales, scale_count_, scales_.begin());
    if (scales_have_min(form_.scales)) std::copy_n(mins, scale_count_, mins_.begin());
    return out + super_bytes(form_.scales);
  }

  void put_group(int group, int row, std::byte* out) const {
    const int per_group = scales_per_group(form_.scales);
    for (int s = 0; s < per_group; ++s) put_scale(scales_[group * per_group + s], s * kPanelRows + row, out);
    out += scale_bytes(form_.scales);
    if (scales_have_min(form_.scales)) {
      for (int s = 0; s < per_group; ++s) put_scale(mins_[group * per_group + s], s * kPanelRows + row, out);
      out += scale_bytes(form_.scales);
    }
    uint32_t words[kWords];
    std::memcpy(words, codes_.data() + group * kGroupColumns, kGroupColumns);
    const bool bytes = codes_are_bytes(form_.codes);
    for (int j = 0; j < (bytes ? kWords : kWords / 2); ++j) {
      const uint32_t word = bytes ? words[j] : words[j] | words[j + kWords / 2] << 4;
      std::memcpy(out + j * 4 * kPanelRows + row * 4, &word, 4);
    }
  }

  void put_scale(float value, int at, std::byte* out) const {
    if (scales_have_super(form_.scales)) {
      out[at] = static_cast<std::byte>(static_cast<int8_t>(value));
    } else if (scales_are_half(form_.scales)) {
      const uint16_t half = float_to_half(value);
      std::memcpy(out + at * 2, &half, 2);
    } else {
      std::memcpy(out + at * 4, &value, 4);
    }
  }

  const QuantType& type_;
  const PanelForm& form_;
  const int64_t scale_count_;
  std::array<uint8_t, kBlockColumns> codes_;
  std::array<float, 2 * kSuperGroups> scales_, mins_;
};

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

constexpr int float_bytes(FloatForm form) { return form == FloatForm::f32 ? 4 : 2; }

}  // namespace

struct MatrixPacking {
  static Matrix make(int64_t rows, int64_t columns, const KernelTable& kernels) {
    Matrix m;
    m.rows_ = rows;
    m.columns_ = columns;
    m.kernels_ = kernels.matmul;
    return m;
  }

  /// Calls pack(row, rows, panel memory) for every panel, on all threads. A last panel of fewer than 16 rows keeps
  /// zeros.
  template <typename Pack>
  static void fill(Matrix& m, int64_t panel_bytes, Pool& pool, Pack pack) {
    m.panel_bytes_ = panel_bytes;
    // Throws where there is no address space: before the region, whose workers must not.
    m.memory_ = WeightMemory(m.bytes());
    pool.run([&](const Worker& worker) {
      const auto [begin, end] = worker.share(m.panels());
      for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t row = panel * kPanelRows;
        pack(row, static_cast<int>(std::min<int64_t>(kPanelRows, m.rows_ - row)),
             m.memory_.data() + panel * panel_bytes);
      }
    });
  }

  static void pack_integers(Matrix& m, const TensorView& tensor, Pool& pool) {
    const QuantType& type = *tensor.type;
    const PanelForm form = panel_form(*type.integer, type.block_elems, m.kernels_->reads_half);
    m.integer_ = true;
    m.codes_ = form.codes;
    m.scales_ = form.scales;
    m.zero_ = form.zero;
    std::copy(std::begin(form.table), std::end(form.table), m.table_);
    const int64_t n_blocks = m.columns_ / type.block_elems;
    QUERN_CHECK(!scales_have_super(form.scales) || type.block_elems == kSuperGroups * kGroupColumns,
                "256 columns share a number");
    const int64_t bytes = panel_bytes(form.codes, form.scales, m.columns_ / kGroupColumns);
    fill(m, bytes, pool, [&](int64_t row, int rows, std::byte* panel) {
      RowPacker packer(type, form);
      for (int r = 0; r < rows; ++r) packer.pack(tensor.row(row + r).data(), n_blocks, r, panel);
    });
  }

  static void pack_floats(Matrix& m, const TensorView& tensor, Pool& pool) {
    const QuantType& type = *tensor.type;
    if (&type == &quant_bf16) m.floats_ = FloatForm::bf16;
    if (&type == &quant_f16 && m.kernels_->reads_half) m.floats_ = FloatForm::f16;
    const int64_t panel_bytes = m.columns_ * kPanelRows * float_bytes(m.floats_);
    fill(m, panel_bytes, pool, [&](int64_t row, int rows, std::byte* panel) {
      if (m.floats_ != FloatForm::f32) {
        const auto copy = [&](int r, int64_t k, int64_t count, uint16_t* out) {
          std::memcpy(out, tensor.row(row + r).data() + k * 2, count * 2);
        };
        return interleave<uint16_t>(rows, m.columns_, copy, panel);
      }
      const auto decode = [&](int r, int64_t k, int64_t count, float* out) {
        type.decode(tensor.row(row + r).data() + k * type.block_bytes, out, count);
      };
      interleave<float>(rows, m.columns_, decode, panel);
    });
  }
};

Matrix Matrix::pack(const TensorView& tensor, const KernelTable& kernels, Pool& pool) {
  const QuantType& type = *tensor.type;
  QUERN_CHECK(tensor.shape.columns() % type.block_elems == 0, "rows are whole blocks");
  QUERN_CHECK(type.integer || type.block_elems == 1, "a type of blocks has an integer form");
  Matrix m = MatrixPacking::make(tensor.shape.rows(), tensor.shape.columns(), kernels);
  if (type.integer)
    MatrixPacking::pack_integers(m, tensor, pool);
  else
    MatrixPacking::pack_floats(m, tensor, pool);
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
