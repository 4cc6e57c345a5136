// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/profile.h"

namespace quern {
namespace {

double seconds(Profile::Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

Profile::Charge Profile::charge(int worker, Phase phase) const {
  const Track& track = tracks_.at(worker);
  const auto i = static_cast<size_t>(phase);
  return {seconds(track.work[i]), seconds(track.wait[i])};
}

Profile::Charge Profile::mean(Phase phase) const {
  Charge sum;
  for (int worker = 0; worker < threads(); ++worker) {
    const Charge one = charge(worker, phase);
    sum.work_s += one.work_s;
    sum.wait_s += one.wait_s;
  }
  return {sum.work_s / threads(), sum.wait_s / threads()};
}

void Profile::reset() {
  for (Track& track : tracks_) track = Track();
}

void Profile::end() {
  for (Track& track : tracks_) track.stop_waiting();
}

}  // namespace quern
