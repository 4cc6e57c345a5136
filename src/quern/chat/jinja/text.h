// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace quern::jinja {

/// UTF-8 text that knows of every byte whether a template or a user wrote it. Positions are bytes and lie between
/// characters; every operation that moves bytes moves what is known about them.
class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, bool user = false)
      : bytes_(std::move(bytes)), starts_user_(user && !bytes_.empty()) {}

  const std::string& bytes() const { return bytes_; }
  std::string_view view() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  bool has_user() const { return starts_user_ || !cuts_.empty(); }
  bool user_at(size_t position) const;
  size_t memory_bytes() const { return bytes_.capacity() + cuts_.capacity() * sizeof(size_t); }

  void append(std::string_view bytes, bool user);
  void append(const Text& other) { append(other, 0, other.size()); }
  void append(const Text& other, size_t from, size_t to);
  Text slice(size_t from, size_t to) const;
  void mark_user();

  /// Calls visit(piece, user) for each longest stretch of one writer, in order.
  template <typename Visit>
  void for_each_run(Visit visit) const {
    size_t from = 0;
    bool user = starts_user_;
    for (const size_t cut : cuts_) {
      visit(view().substr(from, cut - from), user);
      from = cut;
      user = !user;
    }
    if (from < size()) visit(view().substr(from), user);
  }

 private:
  std::string bytes_;
  bool starts_user_ = false;
  std::vector<size_t> cuts_;  // positions where the writer changes, ascending, inside the text
};

// Characters are code points here, as in Python.
size_t count_chars(std::string_view text);
/// Byte position of a character; the size of the text for every index at or past its end.
size_t char_position(std::string_view text, size_t index);

}  // namespace quern::jinja
