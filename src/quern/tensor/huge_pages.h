// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace quern {

inline constexpr int64_t kHugePage = 2 << 20;

/// Zeroed anonymous memory that begins at a multiple of a huge page and lies on huge pages where the kernel gives them
/// (a rest that fills none on small ones). Takes address space alone: memory comes with the first touch, from the
/// thread that touches. Null where there is no address space. Any thread.
std::shared_ptr<std::byte> map_huge_pages(int64_t bytes);

/// Gives back the memory of the whole system pages within; what was there is lost.
void give_back_pages(std::byte* data, int64_t bytes);

}  // namespace quern
