// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "quern/server/answer_facts.h"
#include "quern/server/call.h"
#include "quern/server/event_stream.h"

namespace quern {

// What OpenAI's chat and completions have in common: choices, told in one object or in chunks.

struct ChoicesOptions {
  std::string_view path;       ///< of the route, for errors
  std::string_view id_prefix;  ///< of the answer's name
  std::string_view field;      ///< that holds the prompt, for one that does not fit
  int choices = 1;
  bool logprobs = false;
  bool include_usage = false;  ///< in a last chunk
};

class ChoicesAnswer : public AnswerWriter {
 public:
  ChoicesAnswer(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
                const ChoicesOptions& options)
      : model_(std::move(model)), writer_(std::move(writer)), options_(options), id_(new_id(options.id_prefix)) {}

 protected:
  /// An answer or a chunk of one.
  Json object(std::string_view kind, Json::Array choices) const;
  Refusal named(const Refusal& refusal) const;

  const std::shared_ptr<ServedModel> model_;
  const std::shared_ptr<ResponseWriter> writer_;
  const ChoicesOptions options_;

 private:
  const std::string id_;
  const int64_t created_ = unix_time();
};

/// One object, when all choices have ended.
class WholeChoices : public ChoicesAnswer {
 public:
  using ChoicesAnswer::ChoicesAnswer;

  void begin(int64_t prompt_tokens) override;
  void alive() override {}
  void piece(int choice, std::string_view reasoning, std::string_view text, std::span<const TokenInfo> tokens) override;
  void end_choice(int choice, const ChoiceEnd& end) override;
  void end(const CallEnd& end) override;
  void fail(const Refusal& refusal) override;

 protected:
  struct Part {
    std::string reasoning, text;
    std::vector<TokenInfo> prompt, tokens;  ///< where log-probabilities are asked for
    std::string_view finish;
  };
  virtual std::string_view kind() const = 0;
  virtual Json choice(int index, const Part& part) = 0;

 private:
  std::vector<Part> parts_;
};

/// Chunks, each of one choice.
class StreamedChoices : public ChoicesAnswer {
 public:
  StreamedChoices(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
                  const ChoicesOptions& options)
      : ChoicesAnswer(std::move(model), std::move(writer), options), stream_(writer_, EventFormat::server_sent) {}

  void begin(int64_t prompt_tokens) override;
  void alive() override;
  void piece(int choice, std::string_view reasoning, std::string_view text, std::span<const TokenInfo> tokens) override;
  void end_choice(int choice, const ChoiceEnd& end) override;
  void end(const CallEnd& end) override;
  void fail(const Refusal& refusal) override;

 protected:
  virtual std::string_view kind() const = 0;
  /// The first chunk's of a choice: nothing was drawn yet.
  virtual Json first(int index) = 0;
  virtual Json choice(int index, std::string_view reasoning, std::string_view text, std::span<const TokenInfo> tokens,
                      const Json& finish) = 0;

 private:
  void send(Json choice);
  EventStream stream_;
  std::vector<bool> ended_;
};

}  // namespace quern
