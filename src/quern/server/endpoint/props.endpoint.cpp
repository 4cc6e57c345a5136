// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint/server_props.h"

namespace quern {

extern const Endpoint endpoint_props;
const Endpoint endpoint_props = {
    .method = "GET",
    .path = "/props",
    .summary = "Facts of the server and its model (llama.cpp's route).",
    .fields = {},
    .handle = answer_props,
};

}  // namespace quern
