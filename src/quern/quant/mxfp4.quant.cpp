// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/integer_type.h"

namespace quern {
namespace {

struct MXFP4 {
  struct Block {
    uint8_t exponent, codes[16];
  };
  // E2M1 times two, so that the levels are integers; the scale is 2^(exponent - 127) / 2.
  static constexpr int8_t kLevels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  static constexpr int kElems = 32, kGroup = 32, kCodeBits = 4;
  static int code(const Block& b, int, int i) { return nibble_of_32(b.codes, i); }
  static constexpr bool kExponent = true;
  static uint16_t number(const Block& b) { return b.exponent; }
};
static_assert(sizeof(MXFP4::Block) == 17);

}  // namespace

extern const QuantType quant_mxfp4;
const QuantType quant_mxfp4 = IntegerType<MXFP4>::type("MXFP4", 39);

}  // namespace quern
