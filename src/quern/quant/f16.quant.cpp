// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/half.h"
#include "quern/quant/quant.h"

namespace quern {
namespace {

void decode(const std::byte* blocks, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bits;
    std::memcpy(&bits, blocks + i * 2, 2);
    out[i] = half_to_float(bits);
  }
}

void encode(const float* in, std::byte* blocks, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t bits = float_to_half(in[i]);
    std::memcpy(blocks + i * 2, &bits, 2);
  }
}

}  // namespace

const QuantType quant_f16 = {"F16", 1, 1, 2, decode, encode, nullptr};

}  // namespace quern
