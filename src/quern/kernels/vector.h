// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace quern {

struct VectorKernels {};

}  // namespace quern
