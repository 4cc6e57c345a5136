// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "quern/base/function_ref.h"
#include "quern/base/result.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// A hole in a file, with what stands around it.
struct FillIn {
  struct File {
    std::string name, text;
  };
  std::string prefix, suffix;
  std::string begun;        ///< what already stands in the hole
  std::vector<File> files;  ///< others, for the model to look at
};

/// The prompt that makes a model fill the hole. A model whose vocabulary has no fill-in-the-middle tokens is
/// unsupported, with an error that names `field` and says so. Nothing in the texts becomes a control token.
Result<std::vector<TokenId>> fill_in_ids(const Tokenizer& tokenizer, const FillIn& hole, std::string_view field);
/// Whether a vocabulary with these tokens has those of a family.
bool fills_holes(FunctionRef<bool(std::string_view token)> has_token);

}  // namespace quern
