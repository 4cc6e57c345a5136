// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "quern/engine/core_stage_testing.h"

namespace quern {
namespace {

using testing::Sim;
using testing::sim_answer;
using testing::SimState;
using testing::tokens;
using testing::Told;

class Simulator : public ::testing::TestWithParam<SimState> {};
INSTANTIATE_TEST_SUITE_P(Core, Simulator, ::testing::Values(SimState::rows, SimState::windows, SimState::recurrent),
                         [](const auto& state) {
                           return state.param == SimState::rows      ? "rows"
                                  : state.param == SimState::windows ? "windows"
                                                                     : "recurrent";
                         });

// By several workers: each draws for some of them.
/// Random arrivals, cancels, lack of memory and restarts against what each request must get. QUERN_SIM_STEPS sets the
/// steps (a million before a release), QUERN_SIM_SEED the seed.
TEST_P(Simulator, whatever_happens_everybody_gets_the_right_answer) {
  const auto number = [](const char* name, int64_t otherwise) {
    const char* text = std::getenv(name);
    return text ? std::strtoll(text, nullptr, 10) : otherwise;
  };
  const int64_t steps = number("QUERN_SIM_STEPS", 20'000);
  const auto seed = static_cast<uint32_t>(number("QUERN_SIM_SEED", 1));
  SCOPED_TRACE("QUERN_SIM_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  const auto below = [&](uint32_t n) { return random() % n; };

  const auto folder = std::filesystem::path(::testing::TempDir()) / ("quern-sim-" + std::to_string(getpid()));
  auto prefixes = PrefixStore::open(folder, 1, 4 << 20);
  ASSERT_TRUE(prefixes) << prefixes.error().message;
  const int64_t budget = 180 << 10;  // about 90 pages of rows
  std::optional<Sim> sim;
  sim.emplace(GetParam(), budget, 5, prefixes->get());

  struct Open {
    uint64_t id;
    std::shared_ptr<Told> told;
    Request request;
  };
  std::vector<Open> open;
  std::vector<std::vector<int32_t>> talks(8);  // as the latest answers left them
  int64_t ended = 0, cancelled = 0, out_of_memory = 0, cached = 0, accepted = 0;
  const auto check = [&](const Open& o) {
    const RequestEnd& end = *o.told->end;
    const auto most = std::min<int64_t>(o.request.max_tokens, 1024 - static_cast<int64_t>(o.request.prompt.size()));
    const auto want = sim_answer(o.request.prompt, o.request.sampling, most);
    const auto& got = o.told->ids;
    ASSERT_LE(got.size(), want.size());
    ASSERT_TRUE(std::equal(got.begin(), got.end(), want.begin())) << "a wrong token";
    ASSERT_LT(end.usage.cached_tokens, end.usage.prompt_tokens);
    ++ended;
    std::vector<int32_t>& talk = talks[below(8)];
    talk = o.request.prompt;
    talk.insert(talk.end(), got.begin(), got.end());
    if (talk.size() > 700) talk.clear();
    cached += end.usage.cached_tokens;
    accepted += end.usage.accepted_tokens;
    if (end.error) {
      ASSERT_EQ(end.error->code, ErrorCode::out_of_memory) << end.error->message;
      ++out_of_memory;
    } else if (end.finish == FinishReason::cancelled) {
      ++cancelled;
    } else {
      ASSERT_EQ(got, want);
    }
  };
  for (int64_t step = 0; step < steps && !::testing::Test::HasFatalFailure(); ++step) {
    if (open.size() < 12 && below(8) == 0) {
      Request request;
      // From few beginnings, so that they share.
      const uint32_t talk = below(6);
      request.prompt = tokens(64 * below(6) + below(30), talk);
      if (below(3) == 0) request.prompt = talks[below(8)];  // the next turn
      for (const int32_t id : tokens(1 + below(120), 100 + below(4))) request.prompt.push_back(id);
      request.sampling = Sim::greedy();
      if (below(2)) request.sampling.temperature = 1, request.sampling.seed = below(5);
      request.max_tokens = below(60);
      request.owner = std::string(1, static_cast<char>('a' + below(3)));
      request.priority = static_cast<int>(below(3));
      request.use_cache = below(10) != 0;
      if (below(4) == 0) request.checkpoints = {static_cast<int64_t>(below(200)), 100'000, -5};
      if (below(2) == 0) request.message_starts = {std::ssize(request.prompt) - 1 - static_cast<int64_t>(below(70))};
      auto told = sim->add(request);
      open.push_back({sim->last, std::move(told), std::move(request)});
    }
    if (!open.empty() && below(40) == 0) sim->core->cancel(open[below(static_cast<uint32_t>(open.size()))].id);
    if (below(3000) == 0) {  // a restart: the disk stays
      sim->core.reset();
      for (const Open& o : open) EXPECT_TRUE(o.told->end);
      open.clear();
      sim.reset();
      sim.emplace(GetParam(), budget, 5, prefixes->get(), below(2) ? 1 : 16 << 20);
    }
    sim->core->step();
    const EngineFacts facts = sim->core->facts();
    ASSERT_LE(facts.running, 5);
    ASSERT_LE(facts.state_bytes, facts.state_limit_bytes);
    std::erase_if(open, [&](const Open& o) {
      if (!o.told->end) return false;
      check(o);
      return true;
    });
  }
  sim->drain();
  for (const Open& o : open) check(o);
  EXPECT_GT(ended, steps / 100);
  EXPECT_GT(cached, 0);
  EXPECT_GT(cancelled, 0);
  EXPECT_GT(accepted, 0);
  RecordProperty("ended", static_cast<int>(ended));
  RecordProperty("out_of_memory", static_cast<int>(out_of_memory));
  sim.reset();
  prefixes->reset();
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace quern
