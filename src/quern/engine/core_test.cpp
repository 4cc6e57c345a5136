// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "quern/engine/core_stage_testing.h"

namespace quern {
namespace {

using testing::Sim;
using testing::sim_answer;
using testing::SimModel;
using testing::SimState;
using testing::SimTokenizer;
using testing::tokens;
using testing::Told;

class EveryState : public ::testing::TestWithParam<SimState> {};
INSTANTIATE_TEST_SUITE_P(Core, EveryState, ::testing::Values(SimState::rows, SimState::windows, SimState::recurrent),
                         [](const auto& state) {
                           return state.param == SimState::rows      ? "rows"
                                  : state.param == SimState::windows ? "windows"
                                                                     : "recurrent";
                         });

// By several workers: each draws for some of them.
TEST_P(EveryState, a_request_gets_its_own_answer_beside_others) {
  Sim sim(GetParam(), 64 << 20, 6, nullptr, 16 << 20, 3);
  std::vector<std::pair<std::shared_ptr<Told>, std::vector<int32_t>>> all;
  for (uint32_t i = 0; i < 20; ++i) {
    SamplingOptions sampling;
    sampling.temperature = i % 2 ? 1.0f : 0.0f;
    sampling.seed = i;
    const auto prompt = tokens(1 + i * 17 % 300, i);
    all.emplace_back(sim.add(prompt, 30, sampling), sim_answer(prompt, sampling, 30));
  }
  sim.drain();
  for (const auto& [told, want] : all) {
    ASSERT_TRUE(told->end);
    EXPECT_FALSE(told->end->error);
    EXPECT_EQ(told->ids, want);
    EXPECT_EQ(told->end->usage.completion_tokens, static_cast<int64_t>(want.size()));
  }
}

TEST_P(EveryState, a_prompt_that_was_read_before_comes_from_the_cache) {
  Sim sim(GetParam());
  const auto prompt = tokens(600, 1);
  const auto first = sim.add(prompt, 10);
  sim.drain();
  const auto second = sim.add(prompt, 10);
  sim.drain();
  EXPECT_EQ(first->end->usage.cached_tokens, 0);
  // All but the last token; where state is not rows alone whole blocks, as the first one's end lies in its answer.
  EXPECT_EQ(second->end->usage.cached_tokens, GetParam() == SimState::rows ? 599 : 576);
  EXPECT_EQ(first->ids, second->ids);

  auto next = prompt;  // the next turn of the talk
  next.insert(next.end(), first->ids.begin(), first->ids.end());
  for (const int32_t id : tokens(80, 2)) next.push_back(id);
  const auto third = sim.add(next, 5);
  sim.drain();
  EXPECT_GE(third->end->usage.cached_tokens, 599 + std::ssize(first->ids));
  EXPECT_EQ(third->ids, sim_answer(next, Sim::greedy(), 5));
}

TEST_P(EveryState, an_answer_is_cached_up_to_its_last_token) {
  Sim sim(GetParam());
  const auto prompt = tokens(70, 5);
  Request request;
  request.prompt = prompt;
  request.sampling = Sim::greedy();
  request.max_tokens = 300;
  request.ignore_end = true;
  const auto told = sim.add(request);
  sim.drain();
  auto next = prompt;
  next.insert(next.end(), told->ids.begin(), told->ids.end());
  for (const int32_t id : tokens(10, 6)) next.push_back(id);
  const auto second = sim.add(next, 1);
  sim.drain();
  EXPECT_EQ(second->end->usage.cached_tokens, 369);  // the last one was drawn, never read
}

TEST_P(EveryState, a_turn_shares_all_before_the_answer_that_came_back_otherwise) {
  Sim sim(GetParam());
  Request request;
  request.prompt = tokens(317, 5);
  request.sampling = Sim::greedy();
  request.max_tokens = 2;
  request.message_starts = {20, 312};  // the last is the answer's head
  sim.add(request);
  sim.drain();
  request.prompt.resize(312);
  for (const int32_t id : tokens(100, 6)) request.prompt.push_back(id);
  request.message_starts = {20, 312, 407};
  const auto next = sim.add(request);
  sim.drain();
  EXPECT_GE(next->end->usage.cached_tokens, 312);
  EXPECT_LE(next->end->usage.cached_tokens, 314);  // were the same by chance
  EXPECT_EQ(next->ids, sim_answer(request.prompt, Sim::greedy(), 2));
}

TEST_P(EveryState, what_was_cancelled_goes_on_where_it_stopped) {
  Sim sim(GetParam());
  const auto prompt = tokens(500, 5);
  sim.add(prompt, 4);
  sim.core->step();
  sim.core->step();
  sim.core->cancel(sim.last);
  const auto again = sim.add(prompt, 4);
  sim.drain();
  EXPECT_GE(again->end->usage.cached_tokens, 2 * kKvPageTokens);  // a block or more in each step
  EXPECT_EQ(again->ids, sim_answer(prompt, Sim::greedy(), 4));
}

TEST_P(EveryState, keys_share_nothing) {
  Sim sim(GetParam());
  Request request;
  request.prompt = tokens(300, 3);
  request.sampling = Sim::greedy();
  request.max_tokens = 4;
  request.owner = "alpha";
  sim.add(request);
  sim.drain();
  request.owner = "beta";
  const auto stranger = sim.add(request);
  sim.drain();
  EXPECT_EQ(stranger->end->usage.cached_tokens, 0);
  const auto own = sim.add(request);
  sim.drain();
  EXPECT_EQ(own->end->usage.cached_tokens, GetParam() == SimState::rows ? 299 : 256);
}

TEST_P(EveryState, without_the_cache_nothing_is_read_from_it_or_kept) {
  Sim sim(GetParam());
  Request request;
  request.prompt = tokens(300, 3);
  request.sampling = Sim::greedy();
  request.max_tokens = 4;
  request.use_cache = false;
  sim.add(request);
  sim.drain();
  EXPECT_EQ(sim.core->facts().cache_blocks, 0);
  EXPECT_EQ(sim.store.pages_in_use(), 0);
  request.use_cache = true;
  EXPECT_EQ((sim.add(request), sim.drain(), sim.core->facts().cached_tokens), 0);
  request.use_cache = false;
  const auto again = sim.add(request);
  sim.drain();
  EXPECT_EQ(again->end->usage.cached_tokens, 0);
}

TEST_P(EveryState, drafts_change_nothing_but_the_number_of_steps) {
  for (const float temperature : {0.0f, 0.15f}) {
    Request request;
    request.prompt = tokens(300, 2);
    request.sampling.temperature = temperature;
    request.sampling.seed = 3;
    request.sampling.logit_bias = {{testing::kSimEnd, -100.0f}};
    request.max_tokens = 500;
    Sim sim(GetParam());
    const auto told = sim.add(request);
    sim.drain();
    EXPECT_EQ(told->ids, sim_answer(request.prompt, request.sampling, 500));
    EXPECT_GT(told->end->usage.accepted_tokens, 50);
    EXPECT_LE(told->end->usage.accepted_tokens, told->end->usage.drafted_tokens);
    EXPECT_LT(sim.core->facts().steps, 450);
  }
}

TEST_P(EveryState, an_aborted_prompt_goes_on_where_it_stopped) {
  Sim sim(GetParam());
  const auto prompt = tokens(900, 9);
  const auto gone = sim.add(prompt, 1);
  for (int i = 0; i < 6; ++i) sim.core->step();
  sim.core->cancel(sim.last);
  EXPECT_EQ(gone->end->finish, FinishReason::cancelled);
  EXPECT_EQ(sim.core->facts().pages_active, 0);
  const auto again = sim.add(prompt, 3);
  sim.drain();
  EXPECT_GE(again->end->usage.cached_tokens, 192);
  EXPECT_EQ(again->ids, sim_answer(prompt, Sim::greedy(), 3));
}

TEST(Core, a_long_prompt_leaves_few_copies_of_recurrent_state) {
  Sim sim(SimState::recurrent);
  sim.add(tokens(1000, 9), 1);
  sim.drain();  // in eleven steps
  const auto& items = sim.model.state();
  EXPECT_LE(sim.core->facts().cache_bytes,
            state_bytes(items, KvType::f32, 1024, 96) + 4 * checkpoint_bytes(items, KvType::f32));
}

TEST_P(EveryState, memory_for_one_serves_many_in_turn) {
  // A little more than one context of 1,024 tokens takes.
  const SimModel model(GetParam());
  const int64_t budget =
      state_bytes(model.state(), KvType::f32, 1024, 96) + 3 * checkpoint_bytes(model.state(), KvType::f32) + 8192;
  Sim sim(GetParam(), budget);
  std::vector<std::pair<std::shared_ptr<Told>, std::vector<int32_t>>> all;
  for (uint32_t i = 0; i < 12; ++i) {
    Request request;
    request.prompt = tokens(200 + 10 * i, i);
    request.sampling = Sim::greedy();
    request.max_tokens = 500;
    request.ignore_end = true;
    all.emplace_back(sim.add(request), request.prompt);
  }
  sim.drain();
  // What else than rows a request may come to take is counted on in full, so that fewer get a place there.
  if (GetParam() == SimState::rows) {
    EXPECT_GT(sim.core->facts().preemptions, 0);
  }
  for (const auto& [told, prompt] : all) {
    ASSERT_TRUE(told->end);
    EXPECT_FALSE(told->end->error) << told->end->error->message;
    EXPECT_EQ(told->ids.size(), 500u);
    const auto want = sim_answer(prompt, Sim::greedy(), 500);
    EXPECT_TRUE(std::equal(want.begin(), want.end(), told->ids.begin()));
  }
}

TEST(Core, what_fits_nowhere_ends_with_an_error_and_harms_nobody) {
  Sim sim(SimState::rows, 10 << 10);  // ten pages
  const auto large = sim.add(tokens(900, 1), 5);
  const auto small = sim.add(tokens(40, 2), 5);
  sim.drain();
  ASSERT_TRUE(large->end && large->end->error);
  EXPECT_EQ(large->end->error->code, ErrorCode::out_of_memory);
  EXPECT_EQ(small->ids, sim_answer(tokens(40, 2), Sim::greedy(), 5));
}

TEST(Core, wrong_requests_end_at_once_with_the_reason) {
  Sim sim(SimState::rows);
  EXPECT_THAT(sim.add({}, 5)->end->error->message, ::testing::HasSubstr("at least one token"));
  EXPECT_THAT(sim.add({1, testing::kSimVocab}, 5)->end->error->message, ::testing::HasSubstr("found 24"));
  EXPECT_THAT(sim.add({-1}, 5)->end->error->message, ::testing::HasSubstr("found -1"));
  EXPECT_THAT(sim.add(tokens(1025, 1), 5)->end->error->message, ::testing::HasSubstr("1025 tokens"));
}

TEST(Core, a_short_prompt_passes_a_long_one) {
  Sim sim(SimState::rows);
  const auto longer = sim.add(tokens(1000, 1), 1);
  sim.core->step();
  const auto shorter = sim.add(tokens(50, 2), 1);
  for (int i = 0; i < 3; ++i) sim.core->step();
  EXPECT_TRUE(shorter->end);
  EXPECT_FALSE(longer->end);
  sim.drain();
}

TEST(Core, priorities_go_first) {
  Sim sim(SimState::rows, 64 << 20, 1);
  sim.add(tokens(10, 1), 5);
  sim.core->step();
  Request request;
  request.prompt = tokens(10, 2);
  request.sampling = Sim::greedy();
  request.max_tokens = 1;
  const auto plain = sim.add(request);
  request.priority = -1;
  const auto urgent = sim.add(request);
  while (!urgent->end) ASSERT_TRUE(sim.core->step());
  EXPECT_FALSE(plain->end);
  sim.drain();
}

TEST(Core, an_owner_with_many_requests_leaves_places_to_others) {
  Sim sim(SimState::rows, 64 << 20, 2);
  Request request;
  request.prompt = tokens(10, 2);
  request.sampling = Sim::greedy();
  request.max_tokens = 20;
  request.ignore_end = true;
  request.owner = "many";
  std::vector<std::shared_ptr<Told>> many;
  for (int i = 0; i < 10; ++i) many.push_back(sim.add(request));
  request.owner = "one";
  const auto one = sim.add(request);
  while (!one->end) ASSERT_TRUE(sim.core->step());
  EXPECT_LT(std::ranges::count_if(many, [](const auto& t) { return t->end.has_value(); }), 5);
  sim.drain();
}

TEST(Core, a_place_is_given_up_for_an_owner_without_one) {
  Sim sim(SimState::rows, 64 << 20, 2);
  Request request;
  request.sampling = Sim::greedy();
  request.sampling.logit_bias = {{testing::kSimEnd, -100.0f}};
  request.max_tokens = 800;
  request.owner = "many";
  std::vector<std::shared_ptr<Told>> many;
  for (uint32_t i = 0; i < 2; ++i) {
    request.prompt = tokens(100, i);
    many.push_back(sim.add(request));
  }
  for (int i = 0; i < 5; ++i) sim.core->step();
  request.prompt = tokens(10, 7);
  request.max_tokens = 5;
  request.owner = "one";
  request.priority = 1000;
  const auto one = sim.add(request);
  for (int i = 0; i < 12; ++i) sim.core->step();
  EXPECT_TRUE(one->end);
  sim.drain();
  for (uint32_t i = 0; i < 2; ++i) {
    SamplingOptions sampling = request.sampling;
    EXPECT_EQ(many[i]->ids, sim_answer(tokens(100, i), sampling, 800));
  }
}

TEST(Core, what_does_not_fit_is_passed_by_what_does_but_not_for_ever) {
  Sim sim(SimState::rows, 20 << 10, 3);  // twenty pages
  Request request;
  request.sampling = Sim::greedy();
  request.max_tokens = 400;
  request.sampling.logit_bias = {{testing::kSimEnd, -100.0f}};
  request.prompt = tokens(100, 1);
  sim.add(request);
  sim.core->step();
  request.prompt = tokens(900, 2);
  request.max_tokens = 1;
  const auto large = sim.add(request);
  std::vector<std::shared_ptr<Told>> small;
  for (uint32_t i = 0; i < 40; ++i) {
    request.prompt = tokens(20, 10 + i);
    small.push_back(sim.add(request));
  }
  int before_large = 0;
  while (large->progress == 0) {
    ASSERT_TRUE(sim.core->step());
    before_large = static_cast<int>(std::ranges::count_if(small, [](const auto& t) { return t->end.has_value(); }));
  }
  EXPECT_GT(before_large, 0);
  EXPECT_LT(before_large, 40);
  sim.drain();
}

TEST(Core, windows_of_a_long_prompt_leave_room_for_the_prompt_itself) {
  // As much as one context takes, whose windows need few pages: the cache keeps more of them than that.
  const SimModel model(SimState::windows);
  Sim sim(SimState::windows, state_bytes(model.state(), KvType::f32, 1024, 96) + 2048);
  const auto told = sim.add(tokens(1000, 3), 5);
  sim.drain();
  ASSERT_FALSE(told->end->error) << told->end->error->message;
  EXPECT_EQ(told->ids, sim_answer(tokens(1000, 3), Sim::greedy(), 5));
}

TEST(Core, another_answer_to_a_prompt_counts_its_tokens_once) {
  Sim sim(SimState::rows);
  Request request;
  request.prompt = tokens(200, 3);
  request.sampling = Sim::greedy();
  request.max_tokens = 1;
  sim.add(request);
  sim.drain();
  request.counts_prompt = false;
  const auto other = sim.add(request);
  sim.drain();
  EXPECT_EQ(other->end->usage.cached_tokens, 192);
  EXPECT_EQ(sim.core->facts().cached_tokens, 0);
  EXPECT_EQ(sim.core->facts().prompt_tokens, 200);
}

TEST(Core, tells_where_a_prompt_left_what_is_known) {
  SimModel model(SimState::rows);
  SimTokenizer tokenizer;
  Pool pool(1);
  StateStore store(model.state(), KvType::f32, 1 << 20);
  Runner runner(model, pool);
  CoreOptions options;
  options.context = 1024;
  options.report_misses = true;
  options.clock = [] { return 0.0; };
  EngineCore core(runner, store, tokenizer, std::move(options));
  Request request;
  request.prompt = tokens(300, 3);
  request.sampling = Sim::greedy();
  request.max_tokens = 1;
  request.message_starts = {0, 100, 250};
  core.add(1, request, std::make_shared<Told>());
  while (core.step()) {
  }
  EXPECT_TRUE(core.take_misses().empty());
  const int32_t known = request.prompt[170];
  request.prompt[170] = (known + 1) % testing::kSimEnd;
  core.add(2, request, std::make_shared<Told>());
  while (core.step()) {
  }
  const auto misses = core.take_misses();
  ASSERT_EQ(misses.size(), 1u);
  EXPECT_EQ(misses[0].request, 2u);
  EXPECT_EQ(misses[0].position, 170);
  EXPECT_EQ(misses[0].known_id, known);
  EXPECT_EQ(misses[0].prompt_id, request.prompt[170]);
  EXPECT_EQ(misses[0].message, 1);
  EXPECT_EQ(misses[0].cached_tokens, 170);
}

TEST_P(EveryState, while_a_long_prefix_comes_from_the_disk_others_go_on) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / ("quern-core-" + std::to_string(getpid()));
  std::filesystem::remove_all(folder);
  auto disk = PrefixStore::open(folder, 1, 64 << 20);
  ASSERT_TRUE(disk) << disk.error().message;
  const auto prompt = tokens(900, 7);
  std::vector<int32_t> first;
  {
    Sim sim(GetParam(), 64 << 20, 4, disk->get());
    const auto told = sim.add(prompt, 5);
    sim.drain();
    first = told->ids;
  }
  Sim sim(GetParam(), 64 << 20, 4, disk->get(), /*brought_bytes=*/1);
  const auto other = sim.add(tokens(20, 8), 100);
  sim.core->step();
  const auto told = sim.add(prompt, 5);
  size_t beside = 0;
  while (told->ids.empty() && sim.core->step()) beside = other->ids.size();
  EXPECT_GE(beside, 900 / kKvPageTokens);  // a token with each block
  sim.drain();
  EXPECT_GE(told->end->usage.cached_tokens, 832);
  EXPECT_EQ(told->ids, first);
  std::filesystem::remove_all(folder);
}

TEST(Core, probabilities_of_a_prompt_are_those_of_its_answer) {
  Sim sim(SimState::rows);
  Request request;
  request.prompt = tokens(100, 4);
  request.sampling = Sim::greedy();
  request.max_tokens = 20;
  request.top_logprobs = 3;
  request.ignore_end = true;
  const auto answer = sim.add(request);
  sim.drain();
  Request again = request;
  again.prompt.insert(again.prompt.end(), answer->ids.begin(), answer->ids.end());
  again.prompt_logprobs = true;
  again.max_tokens = 0;
  const auto scored = sim.add(again);
  sim.drain();
  const auto& rows = scored->end->prompt_logprobs;
  ASSERT_EQ(rows.size(), 120u);
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(rows[100 + i].id, answer->infos[i].id);
    EXPECT_EQ(rows[100 + i].logprob, answer->infos[i].logprob);
    EXPECT_EQ(rows[100 + i].top.size(), 3u);
  }
}

TEST(Core, an_embedding_is_the_mean_however_the_text_is_cut) {
  Sim sim(SimState::rows);
  Request request;
  request.prompt = tokens(500, 4);
  request.embedding = true;
  const auto alone = sim.add(request);
  sim.drain();
  for (int i = 0; i < 6; ++i) sim.add(tokens(100 + i, 40 + i), 20);
  const auto beside = sim.add(request);
  sim.drain();
  ASSERT_EQ(alone->end->embedding.size(), 4u);
  EXPECT_EQ(alone->end->embedding, beside->end->embedding);
  double square = 0;
  for (const float v : alone->end->embedding) square += static_cast<double>(v) * static_cast<double>(v);
  EXPECT_NEAR(square, 1, 1e-6);
}

TEST(Core, embeddings_share_passes_and_are_the_same_as_alone) {
  constexpr uint32_t kTexts = 10;
  std::vector<Request> requests(kTexts);
  std::vector<std::vector<float>> alone;
  for (uint32_t i = 0; i < kTexts; ++i) {
    requests[i].prompt = tokens(i == 3 ? 200 : 10 + i, 70 + i);
    requests[i].embedding = true;
    Sim sim(SimState::rows);
    const auto told = sim.add(requests[i]);
    sim.drain();
    alone.push_back(told->end->embedding);
  }
  Sim sim(SimState::rows, 64 << 20, kTexts);
  std::vector<std::shared_ptr<Told>> all;
  for (const Request& request : requests) all.push_back(sim.add(request));
  int steps = 1;
  while (sim.core->step()) ++steps;
  for (uint32_t i = 0; i < kTexts; ++i) EXPECT_EQ(all[i]->end->embedding, alone[i]) << i;
  EXPECT_LE(steps, 6) << "333 tokens, 64 and then 96 in a step";
}

/// Has memory for so many tokens.
struct Forgetful : Told {
  explicit Forgetful(size_t n) : most(n) {}
  void on_token(const TokenInfo& token, std::string_view piece) override {
    if (ids.size() == most) throw std::bad_alloc();
    Told::on_token(token, piece);
  }
  size_t most;
};

TEST_P(EveryState, memory_that_one_request_does_not_get_ends_no_other) {
  Sim sim(GetParam());
  Request request;
  request.prompt = tokens(70, 5);
  request.sampling = Sim::greedy();
  request.max_tokens = 40;
  request.ignore_end = true;
  const auto first = sim.add(request);
  const auto poor = std::make_shared<Forgetful>(7);
  sim.core->add(++sim.last, request, poor);
  const auto last = sim.add(request);
  sim.drain();
  ASSERT_TRUE(poor->end && poor->end->error);
  EXPECT_EQ(poor->end->error->code, ErrorCode::out_of_memory);
  EXPECT_EQ(poor->ids.size(), 7u);
  for (const auto& told : {first, last}) {
    ASSERT_TRUE(told->end);
    EXPECT_FALSE(told->end->error);
    EXPECT_EQ(told->ids.size(), 40u);
  }
}

TEST(Core, a_stop_text_ends_an_answer_and_is_not_said) {
  Sim sim(SimState::rows);
  const auto prompt = tokens(30, 8);
  const auto want = sim_answer(prompt, Sim::greedy(), 40);
  ASSERT_GT(want.size(), 6u);
  std::string whole;
  for (const int32_t id : want) whole += sim.tokenizer.piece(id, false);
  Request request;
  request.prompt = prompt;
  request.sampling = Sim::greedy();
  request.max_tokens = 40;
  request.stops = {whole.substr(3, 3)};
  const auto told = sim.add(request);
  sim.drain();
  EXPECT_EQ(told->text, whole.substr(0, whole.find(request.stops[0])));
  EXPECT_EQ(told->end->stop, request.stops[0]);
  EXPECT_EQ(told->end->finish, FinishReason::stop);
}

}  // namespace
}  // namespace quern
