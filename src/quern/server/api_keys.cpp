// SPDX-License-Identifier: Apache-2.0
#include "quern/server/api_keys.h"

#include <string.h>
#include <sys/stat.h>

#include <algorithm>
#include <span>

#include "quern/base/sha256.h"
#include "quern/io/mapped_file.h"

namespace quern {
namespace {

constexpr size_t kMostBytes = 1 << 20;

std::string hash_of(std::string_view text) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text)));
  return hash.finish();
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

bool fits_a_header(std::string_view key) {
  return std::ranges::all_of(key, [](char c) { return c > ' ' && c <= '~'; });
}

/// What follows "Bearer " (RFC 6750; the word in any case, as for every scheme).
std::string_view bearer(std::string_view value) {
  constexpr std::string_view kScheme = "bearer";
  if (value.size() <= kScheme.size() || value[kScheme.size()] != ' ') return {};
  for (size_t i = 0; i < kScheme.size(); ++i)
    if ((value[i] | 0x20) != kScheme[i]) return {};
  return trimmed(value.substr(kScheme.size()));
}

/// Looks at every digit of both, whatever it finds.
bool same(std::string_view a, std::string_view b) {
  unsigned different = a.size() != b.size();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) different |= static_cast<unsigned char>(a[i] ^ b[i]);
  return different == 0;
}

std::optional<Error> read_keys(std::string_view text, std::vector<std::string>& hashes) {
  for (int line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view key = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (key.empty()) continue;
    if (!fits_a_header(key))
      return make_error(ErrorCode::corrupt_data,
                        "line {}: expected a key of printable ASCII without blanks, found other characters", line);
    hashes.push_back(hash_of(key));
  }
  if (hashes.empty()) return make_error(ErrorCode::corrupt_data, "expected a key on a line of its own, found none");
  return std::nullopt;
}

}  // namespace

Result<ApiKeys> ApiKeys::load(const std::filesystem::path& path) {
  QUERN_TRY(std::string text, read_text_file(path, kMostBytes));
  ApiKeys keys;
  const std::optional<Error> error = read_keys(text, keys.hashes_);
  ::explicit_bzero(text.data(), text.size());
  if (error) return error->in(path.string());
  struct stat facts;
  if (::stat(path.c_str(), &facts) == 0 && (facts.st_mode & 077) != 0)
    keys.warning_ = fmt::format("{}: readable by others (mode {:04o}), expected 0600", path.string(),
                                static_cast<unsigned>(facts.st_mode & 07777));
  return keys;
}

std::optional<std::string> ApiKeys::owner_of(const HttpHeaders& headers) const {
  std::optional<std::string> owner;
  for (const auto& [name, value] : headers) {
    std::string_view key;
    if (name == "authorization") key = bearer(value);
    if (name == "x-api-key") key = value;
    if (key.empty()) continue;
    const std::string hash = hash_of(key);
    // All keys are looked at, and not one more hash is taken for a right one than for a wrong one.
    const std::string id = hash_of("owner of cached prefixes: " + hash).substr(0, 32);
    for (const std::string& known : hashes_)
      if (same(hash, known) && !owner) owner = id;
  }
  return owner;
}

}  // namespace quern
