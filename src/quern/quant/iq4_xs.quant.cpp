// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct IQ4XS {
  struct Block {
    uint8_t d[2];
    uint8_t scales_high[2];  // the upper two of 6 bits, group g at bit 2 g
    uint8_t scales_low[4];   // nibbles
    uint8_t codes[128];      // 16 bytes for each group of 32
  };
  static constexpr int kElems = 256, kGroup = 32, kCodeBits = 4;
  static constexpr const int8_t* kLevels = kIq4Levels;
  static int code(const Block& b, int group, int i) { return nibble_of_32(b.codes + group * 16, i); }
  static uint16_t number(const Block& b) { return half_bits(b.d); }
  static int sub_scale(const Block& b, int group) {
    const int low = b.scales_low[group / 2] >> 4 * (group % 2) & 15;
    const int high = b.scales_high[group / 4] >> 2 * (group % 4) & 3;
    return (low | high << 4) - 32;
  }
};
static_assert(sizeof(IQ4XS::Block) == 136);

}  // namespace

extern const QuantType quant_iq4_xs;
const QuantType quant_iq4_xs = IntegerType<IQ4XS>::type("IQ4_XS", 23);

}  // namespace quern
