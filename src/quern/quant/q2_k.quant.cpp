// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct Q2K {
  struct Block {
    uint8_t scales[16];  // low nibble: scale, high: minimum
    uint8_t codes[64];   // byte 32 h + l: elements 128 h + 32 k + l, two bits each
    uint8_t d[2], dmin[2];
  };
  static constexpr int kElems = 256, kGroup = 16, kCodeBits = 2, kZero = 0;
  static int code(const Block& b, int group, int i) { return b.codes[group / 4 * 32 + i] >> 2 * (group % 4) & 3; }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
  static int sub_scale(const Block& b, int group) { return b.scales[group] & 15; }
  static uint16_t min_number(const Block& b) { return half_bits(b.dmin) ^ 0x8000; }  // subtracted
  static int sub_min(const Block& b, int group) { return b.scales[group] >> 4; }
};
static_assert(sizeof(Q2K::Block) == 84);

}  // namespace

extern const QuantType quant_q2_k;
const QuantType quant_q2_k = IntegerType<Q2K>::type("Q2_K", 10);

}  // namespace quern
