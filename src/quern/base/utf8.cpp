// SPDX-License-Identifier: Apache-2.0
#include "quern/base/utf8.h"

namespace quern {

Utf8Step utf8_decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, true, false};
  // Well-formed sequences: the second byte's range depends on the lead (no overlong forms, no surrogates, <= U+10FFFF).
  int need = 0;
  uint8_t low = 0x80, high = 0xBF;
  char32_t cp = 0;
  if (lead >= 0xC2 && lead <= 0xDF)
    need = 1, cp = lead & 0x1F;
  else if (lead >= 0xE0 && lead <= 0xEF) {
    need = 2, cp = lead & 0x0F;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    need = 3, cp = lead & 0x07;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {0xFFFD, 1, false, false};
  }
  for (int i = 1; i <= need; ++i) {
    if (static_cast<size_t>(i) >= text.size()) return {0xFFFD, i, false, true};
    const uint8_t b = byte(i);
    if (b < low || b > high) return {0xFFFD, i, false, false};
    cp = cp << 6 | (b & 0x3F);
    low = 0x80, high = 0xBF;
  }
  return {cp, need + 1, true, false};
}

void utf8_append(std::string& out, char32_t cp) {
  const auto put = [&](char32_t b) { out.push_back(static_cast<char>(b)); };
  if (cp < 0x80) {
    put(cp);
  } else if (cp < 0x800) {
    put(0xC0 | cp >> 6), put(0x80 | (cp & 0x3F));
  } else if (cp < 0x10000) {
    put(0xE0 | cp >> 12), put(0x80 | (cp >> 6 & 0x3F)), put(0x80 | (cp & 0x3F));
  } else {
    put(0xF0 | cp >> 18), put(0x80 | (cp >> 12 & 0x3F)), put(0x80 | (cp >> 6 & 0x3F)), put(0x80 | (cp & 0x3F));
  }
}

bool utf8_valid(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = utf8_decode(text);
    if (!step.valid) return false;
    text.remove_prefix(step.length);
  }
  return true;
}

std::string utf8_repair(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = utf8_decode(text);
    if (step.valid)
      out.append(text.substr(0, step.length));
    else
      out += "\xEF\xBF\xBD";
    text.remove_prefix(step.length);
  }
  return out;
}

}  // namespace quern
