// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct Q4K {
  struct Block {
    uint8_t d[2], dmin[2], scales[12];
    uint8_t codes[128];  // bytes 32 p ..: group 2 p in the low nibbles, 2 p + 1 in the high ones
  };
  static constexpr int kElems = 256, kGroup = 32, kCodeBits = 4, kZero = 0;
  static constexpr bool kSixBits = true;
  static int code(const Block& b, int group, int i) { return b.codes[group / 2 * 32 + i] >> group % 2 * 4 & 15; }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
  static int sub_scale(const Block& b, int group) { return k_scale(b.scales, group); }
  static uint16_t min_number(const Block& b) { return half_bits(b.dmin) ^ 0x8000; }  // subtracted
  static int sub_min(const Block& b, int group) { return k_min(b.scales, group); }
};
static_assert(sizeof(Q4K::Block) == 144);

}  // namespace

extern const QuantType quant_q4_k;
const QuantType quant_q4_k = IntegerType<Q4K>::type("Q4_K", 12);

}  // namespace quern
