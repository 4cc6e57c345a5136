// SPDX-License-Identifier: Apache-2.0
#include "quern/base/sha256.h"

#include <gtest/gtest.h>

#include <string_view>

namespace quern {
namespace {

std::string hash(std::string_view text, size_t piece = 1 << 20) {
  Sha256 sha;
  for (size_t at = 0; at < text.size(); at += piece) sha.update(std::as_bytes(std::span(text.substr(at, piece))));
  return sha.finish();
}

// The examples of FIPS 180-4 and of NIST's test vectors.
TEST(Sha256, agrees_with_the_published_vectors) {
  EXPECT_EQ(hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hash(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, does_not_depend_on_how_the_bytes_come) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  for (size_t n : {0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 300})
    for (size_t piece : {1, 3, 63, 64, 65})
      EXPECT_EQ(hash(text.substr(0, n), piece), hash(text.substr(0, n))) << n << " in pieces of " << piece;
}

}  // namespace
}  // namespace quern
