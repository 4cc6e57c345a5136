// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

namespace quern {

/// What a forward pass does at a time. A phase lasts until the next one is named.
enum class Phase : uint8_t {
  other,          ///< what nobody named, and waking the team
  embed,          ///< rows of the tokens
  norm,           ///< of the stream and of heads
  rounding,       ///< activations as a product takes them
  qkv,            ///< the matrices that a mixer begins with
  rope,           ///< tables and turning
  kv_write,       ///< keys and values into their pages
  attention,      ///< over the keys and values
  recurrent,      ///< convolution and state of a recurrent mixer
  attention_out,  ///< the matrix that a mixer ends with
  router,         ///< which experts
  ffn_up,         ///< gate and up of a feed-forward part
  gating,         ///< a gate and what it lets through, element by element
  ffn_down,
  experts_up,
  experts_down,
  head,  ///< the matrix of logits
};
inline constexpr std::array<std::string_view, 17> kPhaseLabels = {
    "other",         "embed",  "norm",   "rounding", "qkv",      "rope",       "kv_write",     "attention", "recurrent",
    "attention_out", "router", "ffn_up", "gating",   "ffn_down", "experts_up", "experts_down", "head"};
static_assert(kPhaseLabels.size() == static_cast<size_t>(Phase::head) + 1, "every phase has its label");

inline std::string_view phase_label(Phase phase) { return kPhaseLabels[static_cast<size_t>(phase)]; }

/// Where the regions of a pool spend their time: by worker and phase, working and waiting at barriers apart. Attached
/// to a pool (`Pool::profile`) it takes one clock reading per mark and two per barrier, no lock and no memory. Read it
/// between regions.
class Profile {
 public:
  using Clock = std::chrono::steady_clock;
  struct Charge {
    double work_s = 0, wait_s = 0;
  };

  explicit Profile(int threads) : tracks_(threads) {}

  int threads() const { return static_cast<int>(tracks_.size()); }
  Charge charge(int worker, Phase phase) const;
  /// Of all workers.
  Charge mean(Phase phase) const;
  /// That a worker met, the end of each region among them.
  int64_t barriers() const { return tracks_.front().barriers; }
  void reset();

 private:
  friend class Worker;
  friend class Pool;

  /// One worker's own: nobody else writes it while a region runs.
  struct alignas(64) Track {
    std::array<Clock::duration, kPhaseLabels.size()> work{}, wait{};
    Clock::time_point since{};
    int64_t barriers = 0;
    Phase phase = Phase::other;

    void enter(Phase next) {
      stop_working();
      phase = next;
    }
    void stop_working() { lap(work); }
    void stop_waiting() {
      lap(wait);
      ++barriers;
    }
    /// A region that the caller began at `start`; waking up is waiting.
    void begin(Clock::time_point start) {
      since = start;
      phase = Phase::other;
      lap(wait);
    }

   private:
    void lap(std::array<Clock::duration, kPhaseLabels.size()>& column) {
      const auto now = Clock::now();
      column[static_cast<size_t>(phase)] += now - since;
      since = now;
    }
  };

  /// All workers have met at the end of a region. The caller charges everyone's wait: by the time the others wake up,
  /// the profile may be gone.
  void end();

  std::vector<Track> tracks_;
};

}  // namespace quern
