// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <tuple>

#include "quern/base/utf8.h"
#include "quern/tokenizer/base64.h"
#include "quern/tokenizer/code_points.h"

namespace quern {
namespace {

constexpr size_t kMaxInsertBytes = 256;  // of a replacement or prefix: a file must not multiply the text without bound
constexpr size_t kMaxSteps = 64;
constexpr int kMaxDepth = 16;

bool composes(UnicodeForm form) { return form == UnicodeForm::nfc || form == UnicodeForm::nfkc; }
bool is_compatibility(UnicodeForm form) { return form == UnicodeForm::nfkc || form == UnicodeForm::nfkd; }

/// Combining marks into canonical order. utf8proc's own is an insertion sort, quadratic in a long run of marks.
void order_marks(std::vector<utf8proc_int32_t>& text) {
  const auto combining_class = [](utf8proc_int32_t cp) { return utf8proc_get_property(cp)->combining_class; };
  std::vector<std::tuple<uint16_t, size_t, utf8proc_int32_t>> run;  // class, place, code point: sorting them is stable
  for (size_t begin = 0; begin < text.size();) {
    if (combining_class(text[begin]) == 0) {
      ++begin;
      continue;
    }
    run.clear();
    size_t end = begin;
    for (; end < text.size() && combining_class(text[end]) != 0; ++end)
      run.emplace_back(static_cast<uint16_t>(combining_class(text[end])), end, text[end]);
    std::sort(run.begin(), run.end());
    for (size_t i = begin; i < end; ++i) text[i] = std::get<2>(run[i - begin]);
    begin = end;
  }
}

/// Normalises a stretch of whole characters and appends it.
void append_normalized(std::string_view text, UnicodeForm form, std::vector<utf8proc_int32_t>& scratch,
                       std::string& out) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (is_compatibility(form) ? UTF8PROC_COMPAT : 0));
  scratch.clear();
  while (!text.empty()) {
    const Utf8Step step = utf8_decode(text);
    text.remove_prefix(static_cast<size_t>(step.length));
    utf8proc_int32_t parts[32];  // the longest decomposition has 18
    int last_boundary = 0;
    const auto n =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(step.code_point), parts, 32, options, &last_boundary);
    if (n < 0 || n > 32)
      scratch.push_back(static_cast<utf8proc_int32_t>(step.code_point));
    else
      scratch.insert(scratch.end(), parts, parts + n);
  }
  order_marks(scratch);
  auto length = static_cast<utf8proc_ssize_t>(scratch.size());
  if (composes(form)) {
    const auto compose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    length = utf8proc_normalize_utf32(scratch.data(), length, compose);
  }
  for (utf8proc_ssize_t i = 0; i < length; ++i)
    utf8_append(out, static_cast<char32_t>(scratch[static_cast<size_t>(i)]));
}

template <typename Fn>  // Fn(cp) for characters, Fn(kNoCharacter, bytes) for what is none
void for_each_character(std::string_view text, Fn fn) {
  while (!text.empty()) {
    const Utf8Step step = utf8_decode(text);
    const auto length = static_cast<size_t>(step.length);
    fn(step.valid ? step.code_point : kNoCharacter, text.substr(0, length));
    text.remove_prefix(length);
  }
}

std::string lowercase(std::string_view text) {
  std::string out;
  for_each_character(text, [&](char32_t cp, std::string_view bytes) {
    if (cp == kNoCharacter)
      out += bytes;
    else
      utf8_append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(cp))));
  });
  return out;
}

std::string strip_accents(std::string_view text) {
  std::string out;
  for_each_character(text, [&](char32_t cp, std::string_view bytes) {
    const auto category =
        cp == kNoCharacter ? UTF8PROC_CATEGORY_CN : utf8proc_category(static_cast<utf8proc_int32_t>(cp));
    const bool mark = category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
    if (!mark) out += bytes;
  });
  return out;
}

std::string strip(std::string_view text, bool left, bool right) {
  size_t begin = text.size(), end = 0, at = 0;
  for_each_character(text, [&](char32_t cp, std::string_view bytes) {
    if (!is_white_space(cp)) begin = std::min(begin, at), end = at + bytes.size();
    at += bytes.size();
  });
  if (begin > end) return left || right ? std::string() : std::string(text);  // nothing but white space
  if (!left) begin = 0;
  if (!right) end = text.size();
  return std::string(text.substr(begin, end - begin));
}

std::string replace(std::string_view text, const SplitRegex& what, std::string_view with) {
  std::string out;
  size_t done = 0;
  for (const Span& match : what.find_all(text)) {
    out.append(text.substr(done, match.begin - done));
    out += with;
    done = match.end;
  }
  out.append(text.substr(done));
  return out;
}

std::string squeeze_spaces(std::string_view text) {
  std::string out;
  for (const char c : text)
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out.push_back(c);
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

std::string escape(std::string_view text, std::string_view sign, bool prefix) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  if (prefix && !text.empty() && text[0] != ' ' && !text.starts_with(sign)) out = sign;
  for (const char c : text) {
    if (c == ' ')
      out += sign;
    else
      out.push_back(c);
  }
  return out;
}

const std::string* text_of(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  return value != nullptr && value->is_string() ? &value->string() : nullptr;
}

}  // namespace

std::string normalize_unicode(std::string_view text, UnicodeForm form) {
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> scratch;
  // ASCII characters neither change nor take part in a composition with what stands before them, so the text falls into
  // stretches that begin with one; broken bytes end a stretch.
  size_t begin = 0, at = 0;
  bool plain = true;
  const auto finish = [&](size_t end) {
    if (plain)
      out.append(text.substr(begin, end - begin));
    else
      append_normalized(text.substr(begin, end - begin), form, scratch, out);
    begin = end;
    plain = true;
  };
  while (at < text.size()) {
    const auto byte = static_cast<uint8_t>(text[at]);
    if (byte < 0x80) {
      const bool next_is_ascii = at + 1 >= text.size() || static_cast<uint8_t>(text[at + 1]) < 0x80;
      if (!plain || !next_is_ascii) finish(at);
      ++at;
      continue;
    }
    const Utf8Step step = utf8_decode(text.substr(at));
    if (step.valid) {
      plain = false;
      at += static_cast<size_t>(step.length);
    } else {
      finish(at);
      at += static_cast<size_t>(step.length);
      finish(at);
    }
  }
  finish(text.size());
  return out;
}

void Normalizer::add_form(UnicodeForm form) {
  add([form](std::string_view text, bool) { return normalize_unicode(text, form); });
}

void Normalizer::add_prepend(std::string prefix) {
  add([prefix = std::move(prefix)](std::string_view text, bool) {
    std::string out;
    if (!text.empty()) out.append(prefix).append(text);
    return out;
  });
}

void Normalizer::add_replace(SplitRegex what, std::string with) {
  add([what = std::move(what), with = std::move(with)](std::string_view text, bool) {
    return replace(text, what, with);
  });
}

void Normalizer::add_charsmap(Charsmap map) {
  add([map = std::move(map)](std::string_view text, bool) { return map.apply(text); });
}

void Normalizer::add_squeeze_spaces() {
  add([](std::string_view text, bool) { return squeeze_spaces(text); });
}

void Normalizer::add_trim_end(std::string sign) {
  add([sign = std::move(sign)](std::string_view text, bool) {
    while (text.ends_with(sign)) text.remove_suffix(sign.size());
    return std::string(text);
  });
}

void Normalizer::add_escape(std::string sign, Prefix prefix) {
  add([sign = std::move(sign), prefix](std::string_view text, bool first) {
    return escape(text, sign, prefix == Prefix::always || (prefix == Prefix::first && first));
  });
}

std::string Normalizer::apply(std::string_view text, bool first) const {
  std::string now(text);
  for (const Step& step : steps_) now = step(now, first);
  return now;
}

Result<Normalizer> Normalizer::from_json(const Json* json) {
  Normalizer normalizer;
  if (json != nullptr && !json->is_null()) QUERN_TRY_STATUS(normalizer.append_json(*json, 0));
  return normalizer;
}

Status Normalizer::append_json(const Json& json, int depth) {
  const std::string* type = text_of(json, "type");
  if (type == nullptr || depth > kMaxDepth)
    return make_error(ErrorCode::corrupt_data, "normalizer: expected an object with a type");
  if (steps_.size() >= kMaxSteps)
    return make_error(ErrorCode::unsupported, "normalizer: more than {} steps", kMaxSteps);
  const auto flag = [&](std::string_view key) {
    const Json* value = json.find(key);
    return value == nullptr || !value->is_bool() || value->boolean();
  };
  if (*type == "Sequence") {
    const Json* steps = json.find("normalizers");
    if (steps == nullptr || !steps->is_array())
      return make_error(ErrorCode::corrupt_data, "normalizer: Sequence without normalizers");
    for (const Json& step : steps->array()) QUERN_TRY_STATUS(append_json(step, depth + 1));
    return {};
  }
  if (*type == "NFC") return add_form(UnicodeForm::nfc), Status();
  if (*type == "NFD") return add_form(UnicodeForm::nfd), Status();
  if (*type == "NFKC") return add_form(UnicodeForm::nfkc), Status();
  if (*type == "NFKD") return add_form(UnicodeForm::nfkd), Status();
  if (*type == "Lowercase") return add([](std::string_view text, bool) { return lowercase(text); }), Status();
  if (*type == "StripAccents") return add([](std::string_view text, bool) { return strip_accents(text); }), Status();
  if (*type == "Strip") {
    const bool left = flag("strip_left"), right = flag("strip_right");
    return add([left, right](std::string_view text, bool) { return strip(text, left, right); }), Status();
  }
  if (*type == "Prepend") {
    const std::string* prefix = text_of(json, "prepend");
    if (prefix == nullptr || prefix->size() > kMaxInsertBytes)
      return make_error(ErrorCode::corrupt_data, "normalizer: Prepend: expected a short text");
    return add_prepend(*prefix), Status();
  }
  if (*type == "Replace") return append_replace(json);
  if (*type == "Precompiled") {
    const std::string* table = text_of(json, "precompiled_charsmap");
    const auto bytes = base64_decode(table != nullptr ? *table : "");
    if (!bytes) return make_error(ErrorCode::corrupt_data, "normalizer: Precompiled: expected base64");
    if (bytes->empty()) return {};
    QUERN_TRY(Charsmap map, Charsmap::parse(*bytes));
    return add_charsmap(std::move(map)), Status();
  }
  return make_error(ErrorCode::unsupported, "normalizer: type '{}' is not built here", *type);
}

Status Normalizer::append_replace(const Json& json) {
  const std::string* with = text_of(json, "content");
  const Json* pattern = json.find("pattern");
  if (with == nullptr || with->size() > kMaxInsertBytes || pattern == nullptr)
    return make_error(ErrorCode::corrupt_data, "normalizer: Replace: expected a pattern and a short text");
  const std::string* literal = text_of(*pattern, "String");
  const std::string* regex = text_of(*pattern, "Regex");
  if (literal == nullptr && regex == nullptr)
    return make_error(ErrorCode::corrupt_data, "normalizer: Replace: expected a String or Regex pattern");
  auto what = SplitRegex::compile(literal != nullptr ? escaped_regex(*literal) : *regex);
  if (!what) return std::move(what).error().in("normalizer: Replace");
  return add_replace(*std::move(what), *with), Status();
}

}  // namespace quern
