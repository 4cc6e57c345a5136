// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

namespace quern {

/// A named split rule of byte-level BPE vocabularies (`tokenizer.ggml.pre`).
struct PreRule {
  std::string_view names;  ///< separated by blanks
  std::span<const std::string_view> patterns;
  bool ignore_merges = false;  ///< a piece that is a token is that token
  bool adds_bos = false;       ///< where the file does not say
};

inline constexpr std::string_view kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/// Null for a name that is not known: its split cannot be guessed.
const PreRule* find_pre_rule(std::string_view name);
std::span<const PreRule> pre_rules();

}  // namespace quern
