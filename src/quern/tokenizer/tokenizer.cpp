// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/tokenizer.h"

#include "quern/base/utf8.h"

namespace quern {

std::string Tokenizer::decode_from_start(std::span<const TokenId> ids) const {
  std::string text;
  bool first = strips_first_space();
  for (const TokenId id : ids) {
    std::string_view bytes = piece(id);
    if (first && !bytes.empty()) {
      if (bytes.front() == ' ') bytes.remove_prefix(1);
      first = false;
    }
    text += bytes;
  }
  return utf8_repair(text);
}

std::string_view StreamDecoder::push(TokenId id) {
  pending_ += tokenizer_.piece(id);
  text_.clear();
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Utf8Step step = utf8_decode(rest);
    if (step.incomplete) break;
    if (step.valid)
      text_.append(rest.substr(0, static_cast<size_t>(step.length)));
    else
      text_ += "\xEF\xBF\xBD";
    rest.remove_prefix(static_cast<size_t>(step.length));
  }
  pending_.erase(0, pending_.size() - rest.size());
  return text_;
}

std::string StreamDecoder::flush() {
  std::string out = utf8_repair(pending_);
  pending_.clear();
  return out;
}

}  // namespace quern
