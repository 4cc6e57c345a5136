// SPDX-License-Identifier: Apache-2.0
#include "quern/server/call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "quern/server/testing.h"

namespace quern {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Writes down what a writer is told.
class Diary : public AnswerWriter {
 public:
  void begin(int64_t prompt_tokens) override { lines.push_back(fmt::format("begin {}", prompt_tokens)); }
  void alive() override { lines.emplace_back("alive"); }
  void piece(int choice, std::string_view reasoning, std::string_view text,
             std::span<const TokenInfo> tokens) override {
    lines.push_back(fmt::format("{}: [{}] [{}] {}", choice, reasoning, text, tokens.size()));
  }
  void end_choice(int choice, const ChoiceEnd& end) override {
    lines.push_back(fmt::format("{}: {} '{}'", choice, finish_reason_name(end.finish), end.stop));
    usages.push_back(end.usage);
  }
  void end(const CallEnd& end) override {
    lines.push_back(fmt::format("end {}/{}+{} {}", end.usage.cached_tokens, end.usage.prompt_tokens,
                                end.usage.completion_tokens, end.reasoning_tokens));
  }
  void fail(const Refusal& refusal) override {
    status = status_of(refusal);
    lines.push_back(fmt::format("fail {}: {}", error_name(refusal.error.code), refusal.error.message));
  }
  std::vector<std::string> lines;
  std::vector<Usage> usages;  // of the choices as they ended
  int status = 200;
};

struct Stage {
  Stage() = default;
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  ~Stage() { model->forget(); }  // those who still listen own it

  testing::TestLoop loop;
  std::shared_ptr<testing::FakeModel> model = std::make_shared<testing::FakeModel>();
  std::shared_ptr<Diary> diary = std::make_shared<Diary>();
  std::shared_ptr<testing::TestWriter> writer = std::make_shared<testing::TestWriter>();

  void start(Call call) {
    run_call(model, std::move(call), diary, writer, loop.executors());
    loop.run();
  }
};

Call of_ids(std::vector<std::vector<TokenId>> prompts) { return {.prompt = std::move(prompts)}; }
Call of_chat(std::string_view text, Json variables = {}) {
  const Json message(Json::Object{{"role", "user"}, {"content", text}});
  return {.prompt = ChatPrompt{.messages = Json::Array{message}, .variables = std::move(variables)}};
}

TEST(Call, tells_begin_pieces_and_ends_in_order_and_makes_one_piece_of_a_burst) {
  Stage stage;
  stage.start(of_ids({{1, 2, 3}}));
  EXPECT_THAT(stage.diary->lines, ElementsAre("begin 3", "0: [] [Hello world] 11", "0: stop ''", "end 0/3+11 0"));
}

TEST(Call, each_choice_ends_with_its_own_numbers) {
  Stage stage;
  stage.model->cached_tokens = 2;
  stage.model->answer = [](const Request& request) { return std::string(request.prompt.size(), 'x'); };
  stage.start(of_ids({{1, 2, 3}, {4, 5, 6, 7, 8}}));
  ASSERT_EQ(stage.diary->usages.size(), 2U);
  for (const int64_t tokens : {3, 5}) {
    const Usage& usage = stage.diary->usages[tokens == 3 ? 0 : 1];
    EXPECT_EQ(usage.prompt_tokens, tokens);
    EXPECT_EQ(usage.cached_tokens, 2);
    EXPECT_EQ(usage.completion_tokens, tokens);
  }
  EXPECT_EQ(stage.diary->lines.back(), "end 4/8+8 0");
}

TEST(Call, passes_on_the_first_tokens_at_once_and_others_at_a_pace) {
  Stage stage;
  stage.model->at_once = false;
  stage.model->answer = [](const Request&) { return std::string(40, 'x'); };
  Call call = of_ids({{1, 2, 3}});
  call.stream = true;
  stage.start(std::move(call));
  for (int i = 0; i < 30; ++i) stage.model->step(1), stage.loop.run();
  const size_t at_once = stage.diary->lines.size();
  EXPECT_GT(at_once, 12U);
  EXPECT_LT(at_once, 20U);
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  stage.loop.pass_time();
  ASSERT_EQ(stage.diary->lines.size(), at_once + 1);  // the rest in one
  EXPECT_THAT(stage.diary->lines.back(), ::testing::HasSubstr("xxxxx"));
}

TEST(Call, without_a_stream_passes_on_what_follows_at_the_end) {
  Stage stage;
  stage.model->at_once = false;
  stage.start(of_ids({{1, 2, 3}}));
  for (int i = 0; i < 4; ++i) stage.model->step(1), stage.loop.run();
  EXPECT_THAT(stage.diary->lines, ElementsAre("begin 3", "0: [] [H] 1"));  // from then on it is written
  stage.model->run(1);
  stage.loop.run();
  EXPECT_THAT(stage.diary->lines[2], ::testing::StartsWith("0: [] [ello world]"));
}

TEST(Call, says_it_is_alive_while_nothing_comes) {
  Stage stage;
  stage.model->at_once = false;
  stage.start(of_ids({{1}}));
  std::this_thread::sleep_for(std::chrono::milliseconds(420));
  stage.loop.pass_time();
  EXPECT_THAT(stage.diary->lines, ElementsAre("begin 1", "alive"));
  stage.model->run(1);
  stage.loop.run();
  const size_t n = stage.diary->lines.size();
  std::this_thread::sleep_for(std::chrono::milliseconds(420));
  stage.loop.pass_time();
  EXPECT_EQ(stage.diary->lines.size(), n);
}

TEST(Call, is_turned_away_by_a_full_queue_before_it_begins_or_not_at_all) {
  Stage full;
  full.model->queue_full = true;
  full.start(of_ids({{1, 2, 3}}));
  EXPECT_TRUE(full.model->requests.empty());
  EXPECT_EQ(full.diary->lines.size(), 1U);
  EXPECT_EQ(full.diary->status, 429);

  Stage stage;
  Call call = of_ids({{1, 2}, {3}});
  call.n = 2;
  stage.start(std::move(call));
  EXPECT_EQ(stage.model->requests.size(), 4U);
  for (const Request& request : stage.model->requests) EXPECT_TRUE(request.admitted) << "the queue may be full by now";
}

TEST(Call, a_long_list_of_prompts_never_fills_the_queue_of_an_engine) {
  Stage stage;
  stage.model->at_once = false;
  stage.start(of_ids(std::vector<std::vector<TokenId>>(600, {1})));
  EXPECT_EQ(stage.model->requests.size(), 256U);
  for (uint64_t id = 1; id <= 600; ++id) {
    ASSERT_GE(stage.model->requests.size(), id);
    stage.model->run(id);
    stage.loop.run();
  }
  EXPECT_EQ(stage.model->requests.size(), 600U);
  EXPECT_EQ(stage.diary->lines.back(), "end 0/600+6600 0");

  Stage many;
  many.model->at_once = false;
  Call call = of_ids({{1}, {2}, {3}, {4}});
  call.n = 100;
  call.settings.use_cache = false;
  many.start(std::move(call));
  EXPECT_EQ(many.model->requests.size(), 32U) << "eight answers to each prompt";
  for (uint64_t id = 1; id <= 400; ++id) {
    ASSERT_GE(many.model->requests.size(), id);
    EXPECT_LT(many.model->requests.size(), id + 32);
    many.model->run(id);
    many.loop.run();
  }
  EXPECT_EQ(many.model->requests.size(), 400U);
}

TEST(Call, other_answers_wait_until_the_prompt_was_read_once) {
  Stage stage;
  stage.model->at_once = false;
  Call call = of_ids({{1, 2}, {3}});
  call.n = 3;
  call.settings.sampling.seed = 10;
  stage.start(std::move(call));
  ASSERT_EQ(stage.model->requests.size(), 2U);
  EXPECT_THAT(stage.model->requests[1].prompt, ElementsAre(3));
  stage.model->step(1);
  stage.loop.run();
  ASSERT_EQ(stage.model->requests.size(), 4U);
  EXPECT_THAT(stage.model->requests[2].prompt, ElementsAre(1, 2));
  EXPECT_EQ(stage.model->requests[0].sampling.seed, 10U);
  EXPECT_EQ(stage.model->requests[2].sampling.seed, 11U);
  stage.model->run(2);
  stage.loop.run();
  for (const uint64_t id : {1, 3, 4, 5, 6}) stage.model->run(id);
  stage.loop.run();
  EXPECT_EQ(stage.model->requests.size(), 6U);
  EXPECT_EQ(stage.diary->lines.back(), "end 0/3+66 0");  // each prompt counts once
  EXPECT_EQ(std::count_if(stage.diary->lines.begin(), stage.diary->lines.end(),
                          [](const std::string& line) { return line.ends_with("stop ''"); }),
            6);
}

TEST(Call, without_the_cache_nothing_waits) {
  Stage stage;
  stage.model->at_once = false;
  Call call = of_ids({{1}});
  call.n = 2;
  call.settings.use_cache = false;
  stage.start(std::move(call));
  EXPECT_EQ(stage.model->requests.size(), 2U);
}

TEST(Call, a_client_that_goes_cancels_all_requests_and_hears_nothing) {
  Stage stage;
  stage.model->at_once = false;
  stage.start(of_ids({{1}, {2}}));
  ASSERT_TRUE(stage.writer->gone);
  stage.writer->gone();
  stage.loop.run();
  EXPECT_THAT(stage.model->cancelled, ElementsAre(1, 2));
  EXPECT_THAT(stage.diary->lines, ElementsAre("begin 2"));
}

TEST(Call, a_client_that_goes_between_the_answers_starts_no_more) {
  Stage stage;
  stage.model->at_once = false;
  Call call = of_ids({{1}});
  call.n = 2;
  stage.start(std::move(call));
  stage.model->step(1);
  stage.writer->gone();
  stage.loop.run();
  EXPECT_EQ(stage.model->requests.size(), 1U);
}

TEST(Call, the_error_of_one_choice_ends_all) {
  Stage stage;
  stage.model->at_once = false;
  stage.start(of_ids({{1}, {2}}));
  stage.model->error = Error{ErrorCode::out_of_memory, "no pages"};
  stage.model->step(2);
  stage.loop.run();
  EXPECT_EQ(stage.diary->lines.back(), "fail out_of_memory: no pages");
  EXPECT_THAT(stage.model->cancelled, ElementsAre(1, 2));
  stage.model->run(1);
  stage.loop.run();
  EXPECT_EQ(stage.diary->lines.back(), "fail out_of_memory: no pages");
}

TEST(Call, a_request_that_the_engine_cancels_is_a_failure) {
  Stage stage;
  stage.model->at_once = false;
  stage.start(of_ids({{1}}));
  stage.model->cancel(1);
  stage.loop.run();
  EXPECT_EQ(stage.diary->lines.back(), "fail cancelled: the server is stopping");
}

TEST(Call, a_prompt_that_leaves_no_room_for_a_token_is_an_overflow) {
  for (const auto& [tokens, max_tokens, fits] :
       {std::tuple(9, -1, true), {10, -1, false}, {10, 1, false}, {10, 0, true}, {11, 0, false}}) {
    Stage stage;
    stage.model->context = 10;
    Call call = of_ids({{1}, std::vector<TokenId>(static_cast<size_t>(tokens), 5)});
    call.settings.max_tokens = max_tokens;
    stage.start(std::move(call));
    if (fits)
      EXPECT_THAT(stage.diary->lines.back(), HasSubstr("end ")) << tokens;
    else
      EXPECT_THAT(stage.diary->lines,
                  ElementsAre(fmt::format(
                      "fail invalid_argument: prompt: {} tokens, the context of one request holds 10", tokens)));
  }
}

TEST(Call, takes_reasoning_apart_and_counts_its_tokens) {
  Stage stage;
  stage.model->answer = [](const Request&) { return "<think>abc</think>\n\nyes"; };
  stage.start(of_chat("x"));
  ASSERT_EQ(stage.diary->lines.size(), 4U);
  EXPECT_THAT(stage.diary->lines[1], HasSubstr("[abc] [yes]"));
  EXPECT_THAT(stage.diary->lines[3], HasSubstr("+23 20"));
}

TEST(Call, knows_reasoning_that_the_template_has_opened) {
  Stage stage;
  stage.model->answer = [](const Request&) { return "abc</think>yes"; };
  stage.start(of_chat("x", Json::Object{{"enable_thinking", true}}));
  EXPECT_THAT(stage.diary->lines[1], HasSubstr("[abc] [yes]"));
  Stage plain;
  plain.model->answer = stage.model->answer;
  Call call = of_chat("x");
  call.split_reasoning = false;
  plain.start(std::move(call));
  EXPECT_THAT(plain.diary->lines[1], HasSubstr("[] [abc</think>yes]"));
}

TEST(Call, knows_reasoning_that_the_begun_answer_is_in) {
  Stage stage;
  stage.model->answer = [](const Request&) { return " because</think>yes"; };
  Call call = of_chat("x");
  std::get<ChatPrompt>(call.prompt).messages = Json::Array{
      Json::Object{{"role", "user"}, {"content", "why?"}},
      Json::Object{{"role", "assistant"}, {"content", "<think>It is"}},
  };
  stage.start(std::move(call));
  EXPECT_THAT(stage.diary->lines[1], HasSubstr("[ because] [yes]"));
}

TEST(Call, prompt_has_its_messages_starts_and_no_control_tokens_of_users) {
  testing::FakeModel model;
  const Json messages(Json::Array{Json::Object{{"role", "user"}, {"content", "<|im_end|>"}}});
  const auto prompt = render_prompt(model, {.messages = messages});
  ASSERT_TRUE(prompt.has_value());
  const TokenId start = *model.tokenizer().find("<|im_start|>"), end = *model.tokenizer().find("<|im_end|>");
  EXPECT_EQ(std::count(prompt->ids.begin(), prompt->ids.end(), end), 1);
  ASSERT_EQ(prompt->message_starts.size(), 2U);
  for (const int64_t at : prompt->message_starts) EXPECT_EQ(prompt->ids[static_cast<size_t>(at)], start);
  EXPECT_EQ(prompt->answer_place, AnswerPlace::start);
}

/// Which of the messages of these roles a prompt comes back to; the last one is the answer's.
std::vector<size_t> checkpoints_of(std::string_view roles) {
  const testing::FakeModel model;
  Json::Array messages;
  for (const char role : roles)
    messages.push_back(Json::Object{{"role", role == 's'   ? "system"
                                             : role == 'u' ? "user"
                                             : role == 't' ? "tool"
                                                           : "assistant"},
                                    {"content", "user"}});
  const auto prompt = render_prompt(model, {.messages = Json(std::move(messages))});
  EXPECT_TRUE(prompt.has_value());
  EXPECT_EQ(prompt->message_starts.size(),
            roles.size() + (roles.ends_with("a") ? 0 : 1));  // the answer goes on from an "a"
  std::vector<size_t> out;
  for (const int64_t at : prompt->checkpoints)
    out.push_back(std::ranges::find(prompt->message_starts, at) - prompt->message_starts.begin());
  return out;
}

TEST(Call, prompts_come_back_to_the_first_and_the_newest_messages_of_users) {
  using ::testing::ElementsAre;
  EXPECT_THAT(checkpoints_of("u"), ElementsAre(1)) << "what the first message ends with";
  EXPECT_THAT(checkpoints_of("su"), ElementsAre(1));
  EXPECT_THAT(checkpoints_of("ssu"), ElementsAre(2));
  EXPECT_THAT(checkpoints_of("suau"), ElementsAre(1, 3));
  EXPECT_THAT(checkpoints_of("uauau"), ElementsAre(1, 2, 4));
  EXPECT_THAT(checkpoints_of("suatatatau"), ElementsAre(1, 9));
  EXPECT_THAT(checkpoints_of("suauauauauau"), ElementsAre(1, 5, 7, 9, 11));
  EXPECT_THAT(checkpoints_of("sa"), ElementsAre(1));
}

TEST(Call, a_model_without_a_template_says_so) {
  Stage stage;
  stage.model->has_template = false;
  stage.start(of_chat("x"));
  ASSERT_EQ(stage.diary->lines.size(), 1U);
  EXPECT_THAT(stage.diary->lines[0], HasSubstr("fail unsupported: messages: "));
}

}  // namespace
}  // namespace quern
