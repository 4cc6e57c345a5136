// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/chat_template.h"

#include "quern/chat/jinja/interpreter.h"
#include "quern/chat/jinja/parser.h"
#include "quern/chat/jinja/scope.h"

namespace quern {

struct ChatTemplate::Impl {
  jinja::Template tree;
  std::string source;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::compile(std::string_view source) {
  auto impl = std::make_unique<Impl>();
  impl->source = source;
  Result<jinja::Template> tree = jinja::parse(source);
  if (!tree) return std::move(tree).error().in("chat template");
  impl->tree = *std::move(tree);
  if (Status resolved = jinja::resolve_names(impl->tree); !resolved)
    return std::move(resolved).error().in("chat template");
  return ChatTemplate(std::move(impl));
}

Result<std::vector<Segment>> ChatTemplate::render(const Json& context, std::tm now, const RenderLimits& limits,
                                                  std::span<const std::string> more_user_keys) const {
  std::vector<std::string_view> user_keys = {"messages", "tools", "documents"};
  user_keys.insert(user_keys.end(), more_user_keys.begin(), more_user_keys.end());
  jinja::Runtime rt(limits, now);
  Result<jinja::Text> text = jinja::render(impl_->tree, context, user_keys, rt);
  if (!text) return rt.raised ? std::move(text).error() : std::move(text).error().in("chat template");
  std::vector<Segment> segments;
  text->for_each_run([&](std::string_view run, bool user) { segments.push_back({std::string(run), user}); });
  return segments;
}

std::vector<std::string> ChatTemplate::variables() const { return impl_->tree.free_names; }

const std::string& ChatTemplate::source() const { return impl_->source; }

std::tm local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm out{};
  localtime_r(&now, &out);
  return out;
}

}  // namespace quern
