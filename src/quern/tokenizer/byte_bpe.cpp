// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "quern/tokenizer/piece_encoder.h"

namespace quern {

ByteBpe::ByteBpe(const Vocab& vocab, std::array<TokenId, 256> byte_ids, MergeTable merges, WholePiece whole,
                 std::optional<TokenId> unknown)
    : vocab_(vocab), byte_ids_(byte_ids), merges_(std::move(merges)), whole_(whole), unknown_(unknown) {}

void ByteBpe::encode(std::string_view piece, EncodeScratch& scratch, std::vector<TokenId>& out) const {
  if (whole_ == WholePiece::look_up_first) {
    if (const auto id = vocab_.find_ordinary(piece)) return out.push_back(*id);
  }
  auto& symbols = scratch.symbols;
  while (!piece.empty()) {
    // Places are 32 bits wide; larger pieces are cut.
    const std::string_view now = piece.substr(0, std::numeric_limits<uint32_t>::max() / 2);
    piece.remove_prefix(now.size());
    symbols.clear();
    for (const char c : now) symbols.push_back({byte_ids_[static_cast<uint8_t>(c)], 0});
    merge_symbols(merges_, symbols, scratch.merge);
    for (const MergeSymbol& s : symbols) {
      if (s.id >= 0)
        out.push_back(s.id);
      else if (unknown_)
        out.push_back(*unknown_);
    }
  }
}

}  // namespace quern
