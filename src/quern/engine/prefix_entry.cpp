// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/prefix_entry.h"

#include <algorithm>
#include <cstring>

#include "quern/engine/checkpoint_file.h"
#include "quern/io/byte_reader.h"

namespace quern {
namespace {

constexpr uint64_t kMagic = 0x3158494645525051;  // "QPREFIX1": the version is its last digit

template <typename T>
void append(std::vector<std::byte>& out, const T& value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}

std::optional<unsigned> digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return std::nullopt;
}

}  // namespace

std::string key_text(const StoreKey& key) {
  std::string out;
  for (std::byte b : key.bytes) {
    out += "0123456789abcdef"[std::to_integer<unsigned>(b >> 4)];
    out += "0123456789abcdef"[std::to_integer<unsigned>(b & std::byte{15})];
  }
  return out;
}

std::optional<StoreKey> parse_key(std::string_view text) {
  StoreKey key;
  if (text.size() != 2 * key.bytes.size()) return std::nullopt;
  for (size_t i = 0; i < key.bytes.size(); ++i) {
    const auto high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    if (!high || !low) return std::nullopt;
    key.bytes[i] = std::byte(*high << 4 | *low);
  }
  return key;
}

uint64_t entry_header_bytes(size_t n_parts) {
  return sizeof(uint64_t) * 4 + sizeof(StoreKey) + sizeof(EntryPart) * uint64_t{n_parts};
}

std::vector<std::byte> entry_header(uint64_t fingerprint, const StoreKey& key, std::span<const EntryPart> parts) {
  std::vector<std::byte> out;
  out.reserve(entry_header_bytes(parts.size()));
  append(out, kMagic);
  append(out, fingerprint);
  append(out, key);
  append(out, uint64_t{parts.size()});
  for (const EntryPart& part : parts) append(out, part);
  append(out, checksum64(out));
  return out;
}

std::optional<std::vector<EntryPart>> read_entry_header(std::span<const std::byte> header, uint64_t fingerprint,
                                                        const StoreKey& key, size_t n_parts) {
  if (header.size() != entry_header_bytes(n_parts)) return std::nullopt;
  ByteReader reader(header);
  reader.take(sizeof(uint64_t) * 3 + sizeof(StoreKey));
  std::vector<EntryPart> parts(n_parts);
  for (EntryPart& part : parts) {
    const auto bytes = reader.read<uint64_t>(), checksum = reader.read<uint64_t>();
    if (!bytes || !checksum) return std::nullopt;
    part = {*bytes, *checksum};
  }
  // All else is known beforehand, so there is nothing to look at one by one.
  if (!std::ranges::equal(header, entry_header(fingerprint, key, parts))) return std::nullopt;
  return parts;
}

uint64_t part_checksum(std::span<const std::byte> bytes) {
  // checksum64 waits for one multiplication after the other, 4 GB/s on current processors. Four of them side by side
  // keep up with reading from the page cache.
  constexpr size_t kLanes = 4;
  uint64_t lanes[kLanes] = {1, 2, 3, 4};
  while (bytes.size() >= sizeof lanes) {
    uint64_t words[kLanes];
    std::memcpy(words, bytes.data(), sizeof words);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = (lanes[lane] ^ words[lane]) * 1099511628211ull;
      lanes[lane] ^= lanes[lane] >> 29;
    }
    bytes = bytes.subspan(sizeof lanes);
  }
  return checksum64(bytes, checksum64(std::as_bytes(std::span(lanes))));
}

}  // namespace quern
