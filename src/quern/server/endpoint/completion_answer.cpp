// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint/completion_answer.h"

#include "quern/server/answer_logprobs.h"
#include "quern/server/endpoint/choices_answer.h"

namespace quern {
namespace {

Json choice_json(int index, std::string text, Json logprobs, Json finish) {
  return Json::Object{{"text", std::move(text)},
                      {"index", index},
                      {"logprobs", std::move(logprobs)},
                      {"finish_reason", std::move(finish)}};
}

/// The prompts' texts, where they stand before the answers.
struct Echo {
  std::vector<std::string> prompts;  // empty: they do not
  int n = 1;                         // answers to each
  std::string before(int choice) const {
    return prompts.empty() ? std::string() : prompts[static_cast<size_t>(choice / n)];
  }
};

class WholeCompletion : public WholeChoices {
 public:
  WholeCompletion(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
                  const ChoicesOptions& options, Echo echo)
      : WholeChoices(std::move(model), std::move(writer), options), echo_(std::move(echo)) {}

 protected:
  std::string_view kind() const override { return "text_completion"; }
  Json choice(int index, const Part& part) override {
    LegacyLogprobs rows(model_->tokenizer());
    if (options_.logprobs) {
      rows.add(part.prompt);
      rows.add(part.tokens);
    }
    return choice_json(index, echo_.before(index) + part.reasoning + part.text,
                       options_.logprobs ? rows.take() : Json(), part.finish);
  }

 private:
  const Echo echo_;
};

class StreamedCompletion : public StreamedChoices {
 public:
  StreamedCompletion(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
                     const ChoicesOptions& options, Echo echo)
      : StreamedChoices(std::move(model), std::move(writer), options), echo_(std::move(echo)) {
    for (int i = 0; i < options_.choices; ++i) rows_.emplace_back(model_->tokenizer());
  }

 protected:
  std::string_view kind() const override { return "text_completion"; }
  Json first(int index) override { return choice_json(index, echo_.before(index), Json(), Json()); }
  Json choice(int index, std::string_view reasoning, std::string_view text, std::span<const TokenInfo> tokens,
              const Json& finish) override {
    Json rows;
    if (options_.logprobs && !tokens.empty()) {
      rows_[static_cast<size_t>(index)].add(tokens);
      rows = rows_[static_cast<size_t>(index)].take();
    }
    return choice_json(index, std::string(reasoning) + std::string(text), std::move(rows), finish);
  }

 private:
  const Echo echo_;
  std::vector<LegacyLogprobs> rows_;  // offsets go on from chunk to chunk
};

}  // namespace

std::shared_ptr<AnswerWriter> completion_answer(std::shared_ptr<ServedModel> model,
                                                std::shared_ptr<ResponseWriter> writer,
                                                CompletionAnswerOptions options) {
  const ChoicesOptions choices{.path = "/v1/completions",
                               .id_prefix = "cmpl-",
                               .field = "prompt",
                               .choices = options.choices,
                               .logprobs = options.logprobs,
                               .include_usage = options.include_usage};
  Echo echo{std::move(options.echo), options.n};
  if (options.stream)
    return std::make_shared<StreamedCompletion>(std::move(model), std::move(writer), choices, std::move(echo));
  return std::make_shared<WholeCompletion>(std::move(model), std::move(writer), choices, std::move(echo));
}

}  // namespace quern
