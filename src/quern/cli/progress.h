// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace quern {

enum class Unit : uint8_t { bytes, tokens, steps };

/// "reading the prompt: 38 %, 512 of 1,338 tokens, 210 tokens/s, 4 s left", at most `width` bytes. `total` 0: nobody
/// knows; then "answering: 512 tokens, 80 tokens/s".
std::string progress_text(std::string_view what, Unit unit, int64_t done, int64_t total, double seconds, int width);

/// "1.5 GB", "98.4 MB"; powers of 1000.
std::string bytes_text(double bytes);
/// "4 s", "2:05 min", "1:02 h".
std::string duration_text(double seconds);

/// One changing line on stderr, on a terminal only: drawn from half a second of work on, ten times a second, gone in
/// the end. One at a time.
class Progress {
 public:
  Progress(std::string_view what, Unit unit, bool quiet);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }

  /// `total` as in `progress_text`.
  void update(int64_t done, int64_t total);
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  Unit unit_;
  bool enabled_, drawn_ = false;
  Clock::time_point start_ = Clock::now(), last_ = start_;
  int64_t first_ = -1;
};

}  // namespace quern
