// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/server/api_keys.h"
#include "quern/server/http.h"

namespace quern {

struct DoorRules {
  std::string host;  ///< that the server listens on, as it was given
  uint16_t port = 0;
  std::vector<std::string> allow_hosts;               ///< "name": without a port or with ours; "name:port": just that
  std::vector<std::string> allow_origins;             ///< "https://name:port", exactly
  std::vector<std::string> open_paths = {"/health"};  ///< GET and HEAD of these need no key
};

/// Decides by the head of a request whether it may come in, before its body is read. In this order:
///  - Host must be 127.0.0.1, localhost or [::1] with our port, the address listened on, or one of `allow_hosts`: a
///    web page whose name was pointed at this machine (DNS rebinding) has another. 403.
///  - Origin, where there is one, must be that of this server's own page or one of `allow_origins`. 403. No other is
///    ever let to read an answer; a preflight of an allowed one is answered here.
///  - With keys, everything but GET of `open_paths` needs one. 401.
/// A form that a page elsewhere sends without asking first is refused by the routes: POST needs a JSON content type.
/// Errors have a fixed text: nothing that came in goes out again. Immutable, any thread.
class Door {
 public:
  /// Makes the body of a refusal in the shape of the dialect of `path`.
  using ErrorBody = std::function<HttpResponse(std::string_view path, int status, std::string_view message)>;

  /// `keys`: null for none. A rule that makes no sense is an error that names its option.
  static Result<Door> make(const DoorRules& rules, std::shared_ptr<const ApiKeys> keys, ErrorBody error_body);

  /// An answer refuses (or, for a preflight, is all that was asked for); it has `headers` already.
  std::optional<HttpResponse> check(const HttpRequest& head) const;
  /// What every answer to this request carries: no framing, nothing for other sites, and for a page of
  /// `allow_origins` the leave to read it.
  HttpHeaders headers(const HttpRequest& head) const;
  /// The same writer, which adds `headers` to what it is given.
  std::shared_ptr<ResponseWriter> guard(const HttpRequest& head, std::shared_ptr<ResponseWriter> writer) const;
  /// Whose request it is; empty without keys.
  std::string owner_of(const HttpRequest& head) const;

 private:
  Door() = default;
  enum class OriginKind : uint8_t { none, own, allowed, foreign };
  OriginKind origin_of(const HttpRequest& head) const;
  HttpResponse refuse(const HttpRequest& head, int status, std::string_view message) const;

  std::set<std::string> hosts_;    // values of Host, in lower case
  std::set<std::string> origins_;  // of allow_origins, in lower case
  std::set<std::string> open_paths_;
  std::shared_ptr<const ApiKeys> keys_;
  ErrorBody error_body_;
};

/// Whether only this machine reaches an address: 127.0.0.0/8, ::1, localhost.
bool is_loopback(std::string_view host);

/// A server that others reach needs keys.
Status check_exposure(std::string_view host, bool has_keys);

}  // namespace quern
