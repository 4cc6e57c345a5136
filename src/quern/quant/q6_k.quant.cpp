// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct Q6K {
  struct Block {
    uint8_t low[128];    // byte 64 h + 32 (k % 2) + l: elements 128 h + 32 k + l, nibble k / 2
    uint8_t high[64];    // byte 32 h + l, bits 2 k and 2 k + 1
    uint8_t scales[16];  // int8
    uint8_t d[2];
  };
  static constexpr int kElems = 256, kGroup = 16, kCodeBits = 6, kZero = 32;
  static int code(const Block& b, int group, int i) {
    const int half = group / 4, k = group % 4;
    const int low = b.low[64 * half + 32 * (k % 2) + i] >> k / 2 * 4 & 15;
    return low | (b.high[32 * half + i] >> 2 * k & 3) << 4;
  }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
  static int sub_scale(const Block& b, int group) { return static_cast<int8_t>(b.scales[group]); }
};
static_assert(sizeof(Q6K::Block) == 210);

}  // namespace

extern const QuantType quant_q6_k;
const QuantType quant_q6_k = IntegerType<Q6K>::type("Q6_K", 14);

}  // namespace quern
