// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "quern/cli/terminal.h"

namespace quern {
namespace {

constexpr std::string_view kClearLine = "\r\033[K";

std::string grouped(int64_t n) {
  std::string digits = std::to_string(n);
  for (auto at = static_cast<int>(digits.size()) - 3; at > (n < 0 ? 1 : 0); at -= 3) digits.insert(at, ",");
  return digits;
}

std::string rate_text(double rate) { return rate < 10 ? fmt::format("{:.1f}", rate) : grouped(std::llround(rate)); }

void put(std::string_view text) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

std::string bytes_text(double bytes) {
  constexpr std::string_view kUnits[] = {"bytes", "kB", "MB", "GB", "TB"};
  int unit = 0;
  while (bytes >= 999.5 && unit < 4) {
    bytes /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} bytes", bytes)
                   : fmt::format("{:.{}f} {}", bytes, bytes < 99.95 ? 1 : 0, kUnits[unit]);
}

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(std::ceil(std::clamp(seconds, 0.0, 1e9)));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02} min", s / 60, s % 60);
  return fmt::format("{}:{:02} h", s / 3600, s / 60 % 60);
}

std::string progress_text(std::string_view what, Unit unit, int64_t done, int64_t total, double seconds, int width) {
  std::string out(what);
  const auto share = [&](auto text) {
    return total > 0 ? fmt::format("{} of {}", text(done), text(total)) : std::string(text(done));
  };
  if (total > 0)
    out += fmt::format(": {} %, ", std::clamp<int64_t>(done, 0, total) * 100 / total);
  else
    out += ": ";
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  if (unit == Unit::bytes)
    out +=
        fmt::format("{}, {}/s", share([](int64_t n) { return bytes_text(static_cast<double>(n)); }), bytes_text(rate));
  if (unit == Unit::tokens) out += fmt::format("{} tokens, {} tokens/s", share(grouped), rate_text(rate));
  if (unit == Unit::steps) out += share(grouped);
  if (rate > 0 && done < total)
    out += fmt::format(", {} left", duration_text(static_cast<double>(total - done) / rate));
  if (static_cast<int>(out.size()) > width) out.resize(static_cast<size_t>(std::max(width, 0)));
  return out;
}

Progress::Progress(std::string_view what, Unit unit, bool quiet)
    : what_(what), unit_(unit), enabled_(!quiet && is_terminal(STDERR_FILENO)) {}

void Progress::update(int64_t done, int64_t total) {
  if (!enabled_) return;
  const auto now = Clock::now();
  if (first_ < 0) {  // what was there at the start (a prefix read before) was not our speed
    first_ = done;
    start_ = now;
  }
  using std::chrono::milliseconds;
  if (now - start_ < milliseconds(500) || now - last_ < milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const int width = terminal_width(STDERR_FILENO) - 1;
  put(fmt::format("{}{}", kClearLine,
                  progress_text(what_, unit_, done - first_, total > 0 ? total - first_ : 0, seconds, width)));
}

void Progress::clear() {
  if (drawn_) put(kClearLine);
  drawn_ = false;
}

}  // namespace quern
