// SPDX-License-Identifier: Apache-2.0
// The header of a stored prefix: what is accepted is, byte for byte, what would have been written.
#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "quern/engine/checkpoint_file.h"
#include "quern/engine/prefix_entry.h"

namespace {

constexpr uint64_t kFingerprint = 0x1234;
const quern::StoreKey kKey = {std::byte{1}, std::byte{2}, std::byte{3}};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t n_parts = data[0] >> 1;
  const auto rest = std::as_bytes(std::span(data, size)).subspan(1);
  std::vector<std::byte> bytes(rest.begin(), rest.end());
  // A fuzzer never guesses magic, fingerprint, key and checksum; with them mended it reaches what lies behind.
  const bool mend = data[0] & 1;
  if (mend) {
    bytes.resize(quern::entry_header_bytes(n_parts));
    const auto model = quern::entry_header(kFingerprint, kKey, std::vector<quern::EntryPart>(n_parts));
    std::copy_n(model.begin(), 56, bytes.begin());
    const uint64_t sum = quern::checksum64(std::span(bytes).first(bytes.size() - 8));
    std::memcpy(bytes.data() + bytes.size() - 8, &sum, 8);
  }
  const auto parts = quern::read_entry_header(bytes, kFingerprint, kKey, n_parts);
  if (mend && !parts) __builtin_trap();
  if (parts && quern::entry_header(kFingerprint, kKey, *parts) != bytes) __builtin_trap();
  if (parts && quern::read_entry_header(bytes, kFingerprint + 1, kKey, n_parts)) __builtin_trap();

  const std::string_view name(reinterpret_cast<const char*>(data), size);
  const auto key = quern::parse_key(name);
  if (key && quern::key_text(*key) != name) __builtin_trap();
  return 0;
}
