// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quern {

/// What a stored prefix is found by: the hash of its tokens and of whose they are.
struct StoreKey {
  std::array<std::byte, 32> bytes;
  bool operator==(const StoreKey&) const = default;
};

/// 64 lower-case hexadecimal digits, and back; nothing for any other text.
std::string key_text(const StoreKey& key);
std::optional<StoreKey> parse_key(std::string_view text);

/// One part of an entry: a run of bytes with its checksum.
struct EntryPart {
  uint64_t bytes, checksum;
  bool operator==(const EntryPart&) const = default;
};

/// The bytes of an entry's header, before those of its parts. Layout: docs/formats.md, "stored prefixes".
std::vector<std::byte> entry_header(uint64_t fingerprint, const StoreKey& key, std::span<const EntryPart> parts);
/// The size of that header.
uint64_t entry_header_bytes(size_t n_parts);

/// The parts that a header announces, `n_parts` of them. Nothing unless every byte is as `entry_header` would write it
/// for this fingerprint and key. The bytes are as hostile as any file's.
std::optional<std::vector<EntryPart>> read_entry_header(std::span<const std::byte> header, uint64_t fingerprint,
                                                        const StoreKey& key, size_t n_parts);

/// Of one part. Against damage, not against forgery; any change of one 64-bit word changes it.
uint64_t part_checksum(std::span<const std::byte> bytes);

}  // namespace quern
