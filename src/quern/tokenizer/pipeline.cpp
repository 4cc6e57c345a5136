// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/pipeline.h"

#include <algorithm>

namespace quern {
namespace {

/// Stretches of bytes that users wrote, sorted.
class UserText {
 public:
  void add(size_t begin, size_t end) {
    if (begin == end) return;
    if (!spans_.empty() && spans_.back().end == begin)
      spans_.back().end = end;
    else
      spans_.push_back({begin, end});
  }
  bool touches(Span span) const {
    const auto after =
        std::upper_bound(spans_.begin(), spans_.end(), span.begin, [](size_t at, const Span& s) { return at < s.end; });
    return after != spans_.end() && after->begin < span.end;
  }

 private:
  std::vector<Span> spans_;
};

}  // namespace

bool is_marker(std::string_view text) {
  const auto framed = [&](std::string_view left, std::string_view right) {
    return text.size() > left.size() + right.size() && text.starts_with(left) && text.ends_with(right);
  };
  return framed("<|", ">") || framed("<", "|>") || framed("<｜", "｜>") || framed("[", "]") ||
         text == "<start_of_turn>" || text == "<end_of_turn>" || text == "<bos>" || text == "<eos>" || text == "<s>" ||
         text == "</s>";
}

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts)
    : parts_(std::move(parts)), raw_(*parts_.vocab, false), normalized_(*parts_.vocab, true) {}

void PipelineTokenizer::encode_stretch(std::string_view text, bool first, Allowed allowed, EncodeScratch& scratch,
                                       std::vector<TokenId>& out) const {
  std::string changed;
  if (!parts_.normalizer.empty()) {
    changed = parts_.normalizer.apply(text, first);
    text = changed;
  }
  const auto encode_pieces = [&](std::string_view stretch, bool is_first) {
    parts_.pretokenizer.split(stretch, is_first,
                              [&](std::string_view piece) { parts_.encoder->encode(piece, scratch, out); });
  };
  if (normalized_.empty()) return encode_pieces(text, first);
  for (const AddedTokens::Part& part : normalized_.split(text, allowed)) {
    if (part.id >= 0)
      out.push_back(part.id);
    else
      encode_pieces(text.substr(part.span.begin, part.span.end - part.span.begin), first && part.span.begin == 0);
  }
}

void PipelineTokenizer::encode_text(std::string_view text, Allowed allowed, std::vector<TokenId>& out) const {
  EncodeScratch scratch;
  out.reserve(text.size() / 3 + 16);
  for (const AddedTokens::Part& part : raw_.split(text, allowed)) {
    if (part.id >= 0) {
      out.push_back(part.id);
      continue;
    }
    const size_t base = part.span.begin;
    const auto stretch = text.substr(base, part.span.end - base);
    // Places in normalised text are those of the text only where nothing changed its length; a stretch that a
    // normalizer may change is judged as a whole.
    const bool exact = parts_.normalizer.empty();
    const auto allowed_here = [&](TokenId id, Span span) {
      return allowed(id, exact ? Span{base + span.begin, base + span.end} : part.span);
    };
    encode_stretch(stretch, base == 0, allowed_here, scratch, out);
  }
}

std::vector<TokenId> PipelineTokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<TokenId> out;
  if (options.add_special && adds_bos()) out.push_back(*bos());
  encode_text(text, [&](TokenId id, Span) { return options.parse_special || !(*parts_.vocab)[id].is_control(); }, out);
  if (options.add_special && parts_.adds_eos && eos()) out.push_back(*eos());
  return out;
}

std::vector<TokenId> PipelineTokenizer::encode_prompt(std::span<const Segment> segments) const {
  std::string text;
  UserText user;
  for (const Segment& segment : segments) {
    if (segment.from_user) user.add(text.size(), text.size() + segment.text.size());
    text += segment.text;
  }
  std::vector<TokenId> out;
  encode_text(
      text,
      [&](TokenId id, Span span) {
        const Token& token = (*parts_.vocab)[id];
        return !user.touches(span) || !(token.is_control() || is_marker(token.text));
      },
      out);
  if (adds_bos() && (out.empty() || out.front() != *bos())) out.insert(out.begin(), *bos());
  return out;
}

std::string_view PipelineTokenizer::piece(TokenId id, bool show_special) const {
  const Vocab& vocab = *parts_.vocab;
  if (!vocab.has(id)) return {};
  const Token& token = vocab[id];
  switch (token.type) {
    case TokenType::undefined:
    case TokenType::unused:
      return {};
    case TokenType::control:
    case TokenType::unknown:
      return show_special || token.visible ? std::string_view(token.text) : std::string_view();
    default:
      return token.bytes;
  }
}

bool PipelineTokenizer::is_special(TokenId id) const {
  return parts_.vocab->has(id) && (*parts_.vocab)[id].is_control();
}

std::optional<TokenId> PipelineTokenizer::find(std::string_view text) const {
  const Vocab& vocab = *parts_.vocab;
  if (const auto added = vocab.find_added(text)) return added;
  if (const auto ordinary = vocab.find_ordinary(text)) return ordinary;
  if (vocab.look_up() == LookUp::bytes) return std::nullopt;
  std::string spelled;
  for (const char c : text) {
    if (c == ' ')
      spelled += "\xE2\x96\x81";
    else
      spelled.push_back(c);
  }
  return vocab.find_ordinary(spelled);
}

}  // namespace quern
