// SPDX-License-Identifier: Apache-2.0
#include "quern/server/door.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <utility>

#include "quern/io/printable.h"

namespace quern {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  return out;
}

std::vector<std::string_view> values(const HttpHeaders& headers, std::string_view name) {
  std::vector<std::string_view> out;
  for (const auto& [n, value] : headers)
    if (n == name) out.push_back(value);
  return out;
}

/// As 16 bytes, those of IPv4 mapped into IPv6 as ::ffff:a.b.c.d; nothing for a name.
std::optional<std::array<uint8_t, 16>> parse_address(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const std::string text(host);
  std::array<uint8_t, 16> bytes{};
  if (::inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1) return bytes;
  bytes[10] = bytes[11] = 0xff;
  if (::inet_pton(AF_INET, text.c_str(), bytes.data() + 12) == 1) return bytes;
  return std::nullopt;
}

bool is_ipv4(const std::array<uint8_t, 16>& bytes) {
  return bytes[10] == 0xff && bytes[11] == 0xff &&
         std::all_of(bytes.begin(), bytes.begin() + 10, [](auto b) { return b == 0; });
}

/// How browsers write the host of a URL; empty for an address that stands for all.
std::string url_host(const std::string& host) {
  const auto address = parse_address(host);
  if (!address) return lower(host);
  char text[INET6_ADDRSTRLEN];
  if (is_ipv4(*address)) {
    ::inet_ntop(AF_INET, address->data() + 12, text, sizeof text);
    return text == std::string_view("0.0.0.0") ? "" : text;
  }
  ::inet_ntop(AF_INET6, address->data(), text, sizeof text);
  return text == std::string_view("::") ? "" : fmt::format("[{}]", text);
}

/// "name", "name:port", "[address]:port".
bool is_authority(std::string_view text) {
  size_t host_end = 0;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == text.npos || !parse_address(text.substr(0, end + 1))) return false;
    host_end = end + 1;
  } else {
    host_end = std::min(text.find(':'), text.size());
    const auto fits = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
    };
    if (host_end == 0 || !std::ranges::all_of(text.substr(0, host_end), fits)) return false;
  }
  const std::string_view port = text.substr(host_end);
  return port.empty() || (port.size() >= 2 && port.size() <= 6 && port[0] == ':' &&
                          std::ranges::all_of(port.substr(1), [](char c) { return c >= '0' && c <= '9'; }));
}

bool has_port(std::string_view authority) { return authority.find(':', authority.rfind(']') + 1) != authority.npos; }

/// "scheme://authority", as a browser's Origin says it. Schemes of programs count as well: "vscode-webview://id".
bool is_origin(std::string_view text) {
  const size_t end = text.find("://");
  if (end == text.npos || end == 0) return false;
  const auto fits = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '-'; };
  return std::ranges::all_of(text.substr(0, end), fits) && is_authority(text.substr(end + 3));
}

/// Adds headers to an answer, however it is given.
class GuardedWriter : public ResponseWriter {
 public:
  GuardedWriter(std::shared_ptr<ResponseWriter> inner, HttpHeaders headers)
      : inner_(std::move(inner)), headers_(std::move(headers)) {}

  void respond(HttpResponse response) override { inner_->respond(with_headers(std::move(response))); }
  void begin(HttpResponse response) override { inner_->begin(with_headers(std::move(response))); }
  void write(std::string piece) override { inner_->write(std::move(piece)); }
  void end() override { inner_->end(); }
  void on_gone(std::function<void()> gone) override { inner_->on_gone(std::move(gone)); }

 private:
  HttpResponse with_headers(HttpResponse response) const {
    response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
    return response;
  }

  const std::shared_ptr<ResponseWriter> inner_;
  const HttpHeaders headers_;
};

}  // namespace

Result<Door> Door::make(const DoorRules& rules, std::shared_ptr<const ApiKeys> keys, ErrorBody error_body) {
  Door door;
  const auto allow = [&](const std::string& authority) {
    if (has_port(authority)) {
      door.hosts_.insert(authority);
      return;
    }
    door.hosts_.insert(fmt::format("{}:{}", authority, rules.port));
    if (rules.port == 80) door.hosts_.insert(authority);  // browsers leave it out
  };
  for (const std::string& host : {std::string("127.0.0.1"), std::string("localhost"), std::string("[::1]")})
    allow(host);
  if (const std::string host = url_host(rules.host); !host.empty()) allow(host);
  for (const std::string& given : rules.allow_hosts) {
    const std::string host = lower(given);
    if (!is_authority(host))
      return make_error(ErrorCode::invalid_argument,
                        "--allow-host: expected a host name, with or without a port, found {}", printable(given));
    allow(host);
    door.hosts_.insert(host);  // behind a proxy the port is the proxy's
  }
  for (const std::string& given : rules.allow_origins) {
    const std::string origin = lower(given);
    if (!is_origin(origin))
      return make_error(ErrorCode::invalid_argument,
                        "--allow-origin: expected scheme://host or scheme://host:port, found {}", printable(given));
    door.origins_.insert(origin);
  }
  door.open_paths_.insert(rules.open_paths.begin(), rules.open_paths.end());
  door.keys_ = std::move(keys);
  door.error_body_ = std::move(error_body);
  return door;
}

Door::OriginKind Door::origin_of(const HttpRequest& head) const {
  const auto origins = values(head.headers, "origin"), hosts = values(head.headers, "host");
  if (origins.empty()) return OriginKind::none;
  if (origins.size() != 1 || hosts.size() != 1) return OriginKind::foreign;
  const std::string origin = lower(origins[0]), host = lower(hosts[0]);
  // A page is ours when it was loaded from where its request goes; https where a proxy stands in front.
  if (hosts_.contains(host) && (origin == "http://" + host || origin == "https://" + host)) return OriginKind::own;
  return origins_.contains(origin) ? OriginKind::allowed : OriginKind::foreign;
}

std::optional<HttpResponse> Door::check(const HttpRequest& head) const {
  const auto hosts = values(head.headers, "host");
  if (hosts.size() != 1 || !hosts_.contains(lower(hosts[0])))
    return refuse(head, 403,
                  "Host: expected a loopback name with this server's port or one of --allow-host, found another");

  const OriginKind origin = origin_of(head);
  if (origin == OriginKind::foreign)
    return refuse(head, 403, "Origin: expected this server's own page or one of --allow-origin, found another");
  if (origin == OriginKind::allowed && head.method == "OPTIONS" &&
      !values(head.headers, "access-control-request-method").empty()) {
    HttpResponse answer{.status = 204, .content_type = {}, .body = {}, .headers = headers(head)};
    answer.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, DELETE");
    answer.headers.emplace_back("Access-Control-Allow-Headers", "Authorization, *");  // the star leaves that one out
    answer.headers.emplace_back("Access-Control-Max-Age", "600");
    if (!values(head.headers, "access-control-request-private-network").empty())
      answer.headers.emplace_back("Access-Control-Allow-Private-Network", "true");
    return answer;
  }

  const bool reads = head.method == "GET" || head.method == "HEAD";
  if (keys_ && !(reads && open_paths_.contains(head.path)) && !keys_->owner_of(head.headers)) {
    HttpResponse answer =
        refuse(head, 401, "expected a key of this server as Authorization: Bearer or x-api-key, found none");
    answer.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"quern\"");
    return answer;
  }

  return std::nullopt;
}

HttpHeaders Door::headers(const HttpRequest& head) const {
  HttpHeaders out = {{"X-Frame-Options", "DENY"},
                     {"Content-Security-Policy", "frame-ancestors 'none'"},
                     {"Cross-Origin-Resource-Policy", "same-origin"},
                     {"Referrer-Policy", "no-referrer"}};
  if (origins_.empty()) return out;
  out.emplace_back("Vary", "Origin");
  if (origin_of(head) == OriginKind::allowed) {
    out.emplace_back("Access-Control-Allow-Origin", values(head.headers, "origin")[0]);
    out.emplace_back("Access-Control-Expose-Headers", "*");
  }
  return out;
}

std::shared_ptr<ResponseWriter> Door::guard(const HttpRequest& head, std::shared_ptr<ResponseWriter> writer) const {
  return std::make_shared<GuardedWriter>(std::move(writer), headers(head));
}

std::string Door::owner_of(const HttpRequest& head) const {
  return keys_ ? keys_->owner_of(head.headers).value_or("") : "";
}

HttpResponse Door::refuse(const HttpRequest& head, int status, std::string_view message) const {
  HttpResponse answer = error_body_(head.path, status, message);
  for (auto& header : headers(head)) answer.headers.push_back(std::move(header));
  return answer;
}

bool is_loopback(std::string_view host) {
  if (lower(host) == "localhost") return true;
  const auto address = parse_address(host);
  if (!address) return false;
  constexpr std::array<uint8_t, 16> kLoopback = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return *address == kLoopback || (is_ipv4(*address) && (*address)[12] == 127);
}

Status check_exposure(std::string_view host, bool has_keys) {
  if (has_keys || is_loopback(host)) return {};
  return make_error(ErrorCode::invalid_argument,
                    "--host {}: others may reach this address: expected --api-key-file as well, found no key",
                    printable(host));
}

}  // namespace quern
