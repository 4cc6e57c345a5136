// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct Q3K {
  struct Block {
    uint8_t high[32];    // bit g of byte i is the third bit of code i of group g
    uint8_t codes[64];   // the lower two bits, as in Q2_K
    uint8_t scales[12];  // sixteen of 6 bits: low nibbles in bytes 0..7, the upper two bits in bytes 8..11
    uint8_t d[2];
  };
  static constexpr int kElems = 256, kGroup = 16, kCodeBits = 3, kZero = 4;
  static int code(const Block& b, int group, int i) {
    const int low = b.codes[group / 4 * 32 + i] >> 2 * (group % 4) & 3;
    return low | (b.high[i] >> group & 1) << 2;
  }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
  static int sub_scale(const Block& b, int group) {
    const int low = group < 8 ? b.scales[group] & 15 : b.scales[group - 8] >> 4;
    const int high = b.scales[8 + group % 4] >> 2 * (group / 4) & 3;
    return (low | high << 4) - 32;
  }
};
static_assert(sizeof(Q3K::Block) == 110);

}  // namespace

extern const QuantType quant_q3_k;
const QuantType quant_q3_k = IntegerType<Q3K>::type("Q3_K", 11);

}  // namespace quern
