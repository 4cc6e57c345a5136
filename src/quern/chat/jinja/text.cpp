// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/text.h"

#include <algorithm>

namespace quern::jinja {
namespace {

bool continues_char(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

bool Text::user_at(size_t position) const {
  const auto cuts_before = std::upper_bound(cuts_.begin(), cuts_.end(), position) - cuts_.begin();
  return starts_user_ != (cuts_before % 2 == 1);
}

void Text::append(std::string_view bytes, bool user) {
  if (bytes.empty()) return;
  if (bytes_.empty()) {
    starts_user_ = user;
  } else if (user != (starts_user_ != (cuts_.size() % 2 == 1))) {
    cuts_.push_back(bytes_.size());
  }
  bytes_ += bytes;
}

void Text::append(const Text& other, size_t from, size_t to) {
  auto cut = std::upper_bound(other.cuts_.begin(), other.cuts_.end(), from);
  while (from < to) {
    const size_t end = cut == other.cuts_.end() ? to : std::min(*cut, to);
    const bool user = other.starts_user_ != ((cut - other.cuts_.begin()) % 2 == 1);
    append(other.view().substr(from, end - from), user);
    from = end;
    if (cut != other.cuts_.end()) ++cut;
  }
}

Text Text::slice(size_t from, size_t to) const {
  Text out;
  out.append(*this, from, to);
  return out;
}

void Text::mark_user() {
  cuts_.clear();
  starts_user_ = !bytes_.empty();
}

size_t count_chars(std::string_view text) {
  return text.size() - static_cast<size_t>(std::count_if(text.begin(), text.end(), continues_char));
}

size_t char_position(std::string_view text, size_t index) {
  size_t position = 0;
  for (; position < text.size(); ++position) {
    if (continues_char(text[position])) continue;
    if (index == 0) return position;
    --index;
  }
  return position;
}

}  // namespace quern::jinja
