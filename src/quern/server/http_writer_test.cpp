// SPDX-License-Identifier: Apache-2.0
#include "quern/server/http_writer.h"

#include <gtest/gtest.h>

#include <thread>

namespace quern {
namespace {

/// An answer without a connection: counts what the connection would hear.
struct Desk {
  int wakes = 0, told = 0;
  std::shared_ptr<Answer> answer =
      std::make_shared<Answer>([](std::function<void()> task) { task(); }, [this] { ++wakes; });
  std::shared_ptr<ResponseWriter> writer = make_writer(answer);
  void listen() {
    writer->on_gone([this] { ++told; });
  }
};

TEST(HttpWriter, hands_over_one_whole_answer) {
  Desk desk;
  desk.writer->respond({.status = 201, .body = "x"});
  desk.writer->respond({.status = 500});
  desk.writer->begin({.status = 500});
  desk.writer->write("late");
  desk.writer->end();
  EXPECT_EQ(desk.wakes, 1);
  const auto taken = desk.answer->take();
  ASSERT_TRUE(taken.head);
  EXPECT_EQ(taken.head->status, 201);
  EXPECT_EQ(taken.head->body, "x");
  EXPECT_EQ(taken.pieces, "");
  EXPECT_TRUE(taken.ended);
  EXPECT_FALSE(taken.in_pieces || taken.dropped);
}

TEST(HttpWriter, gathers_pieces_until_they_are_taken) {
  Desk desk;
  desk.writer->write("early");
  desk.writer->begin({.body = "a"});
  desk.writer->write("b");
  desk.writer->write("");
  EXPECT_EQ(desk.wakes, 1);
  EXPECT_EQ(desk.answer->look(), 2u);
  auto taken = desk.answer->take();
  EXPECT_TRUE(taken.head && taken.in_pieces && !taken.ended);
  EXPECT_EQ(taken.head->body, "");
  EXPECT_EQ(taken.pieces, "ab");
  desk.writer->write("c");
  EXPECT_EQ(desk.wakes, 2);
  desk.writer->end();
  taken = desk.answer->take();
  EXPECT_FALSE(taken.head);
  EXPECT_EQ(taken.pieces, "c");
  EXPECT_TRUE(taken.ended && !taken.dropped);
}

TEST(HttpWriter, is_dropped_with_its_last_reference) {
  Desk silent, begun, ended;
  begun.writer->begin({});
  ended.writer->begin({});
  ended.writer->end();
  for (Desk* desk : {&silent, &begun, &ended}) desk->writer.reset();
  EXPECT_TRUE(silent.answer->take().dropped);
  EXPECT_TRUE(begun.answer->take().dropped);
  EXPECT_FALSE(ended.answer->take().dropped);
}

TEST(HttpWriter, tells_once_that_the_client_has_gone) {
  Desk desk;
  desk.listen();
  desk.writer->on_gone([&] { desk.told += 10; });  // in place of the first
  desk.writer->begin({});
  desk.answer->client_gone();
  desk.answer->client_gone();
  EXPECT_EQ(desk.told, 10);
  desk.writer->write("more");
  desk.writer->end();
  EXPECT_EQ(desk.answer->take().pieces, "");
  desk.listen();  // too late: at once
  EXPECT_EQ(desk.told, 11);
}

TEST(HttpWriter, tells_nobody_after_the_end) {
  Desk desk;
  desk.listen();
  desk.writer->respond({});
  desk.answer->client_gone();
  desk.listen();
  EXPECT_EQ(desk.told, 0);
}

TEST(HttpWriter, forgets_whom_to_tell_at_the_end) {
  Desk desk;
  auto owned = std::make_shared<int>(0);
  desk.writer->on_gone([owned] {});
  EXPECT_EQ(owned.use_count(), 2);
  desk.writer->respond({});
  EXPECT_EQ(owned.use_count(), 1);
}

TEST(HttpWriter, loses_nothing_between_threads) {
  std::atomic<int> wakes{0};
  const auto answer = std::make_shared<Answer>([](std::function<void()> task) { task(); }, [&] { ++wakes; });
  auto writer = make_writer(answer);
  std::thread thread([&] {
    writer->begin({});
    for (int i = 0; i < 10'000; ++i) writer->write("x");
    writer->end();
  });
  std::string all;
  for (bool ended = false; !ended;) {
    answer->look();
    auto taken = answer->take();
    all += taken.pieces;
    ended = taken.ended;
  }
  thread.join();
  EXPECT_EQ(all, std::string(10'000, 'x'));
  EXPECT_GT(wakes, 0);
}

}  // namespace
}  // namespace quern
