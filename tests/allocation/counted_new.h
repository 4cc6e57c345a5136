// SPDX-License-Identifier: Apache-2.0
// Every operator new of a program that is linked with this is counted, and one of them can fail. Programs of their own,
// so that others keep theirs.
#pragma once

#include <cstdint>

namespace quern {

/// How many there were so far, on all threads.
int64_t allocations();
/// The one with this number, counted from 0, finds no memory; the others do. -1: none.
void fail_allocation(int64_t number);

}  // namespace quern
