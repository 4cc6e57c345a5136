// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct Q5K {
  struct Block {
    uint8_t d[2], dmin[2], scales[12];
    uint8_t high[32];    // bit g of byte i is the fifth bit of code i of group g
    uint8_t codes[128];  // the lower four, as in Q4_K
  };
  static constexpr int kElems = 256, kGroup = 32, kCodeBits = 5, kZero = 0;
  static constexpr bool kSixBits = true;
  static int code(const Block& b, int group, int i) {
    const int low = b.codes[group / 2 * 32 + i] >> group % 2 * 4 & 15;
    return low | (b.high[i] >> group & 1) << 4;
  }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
  static int sub_scale(const Block& b, int group) { return k_scale(b.scales, group); }
  static uint16_t min_number(const Block& b) { return half_bits(b.dmin) ^ 0x8000; }  // subtracted
  static int sub_min(const Block& b, int group) { return k_min(b.scales, group); }
};
static_assert(sizeof(Q5K::Block) == 176);

}  // namespace

extern const QuantType quant_q5_k;
const QuantType quant_q5_k = IntegerType<Q5K>::type("Q5_K", 13);

}  // namespace quern
