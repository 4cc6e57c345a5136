// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/bench_report.h"

#include <fmt/format.h>

#include "quern/base/json.h"
#include "quern/cli/progress.h"

namespace quern {
namespace {

Json spread_json(const Spread& spread) {
  return Json::Object{{"min", spread.min}, {"median", spread.median}, {"max", spread.max}};
}

}  // namespace

std::string report_json(const BenchReport& report) {
  Json line;
  line.set("test", report.test.name);
  line.set(report.test.in_milliseconds() ? "ms" : "tps", spread_json(report.spread));
  line.set("n", static_cast<int>(report.values.size()));
  line.set("samples", Json::Array(report.values.begin(), report.values.end()));
  line.set("threads", report.threads);
  line.set("isa", report.isa);
  line.set("kv", report.kv);
  line.set("attention", report.attention);
  line.set("peak_bytes", report.peak_bytes);
  if (report.rate.bytes_per_step) line.set("bytes_per_step", *report.rate.bytes_per_step);
  if (report.rate.gbps) line.set("gbps", *report.rate.gbps);
  if (report.rate.tops) line.set("tops", *report.rate.tops);
  if (report.shares.bandwidth) line.set("share_of_bandwidth", *report.shares.bandwidth);
  if (report.shares.int_peak) line.set("share_of_int_peak", *report.shares.int_peak);
  if (report.profile) line.set("barrier_share", report.profile->barrier_share);
  if (!report.test.sweep.empty()) line.set("sweep", report.test.sweep);
  return line.dump();
}

std::string report_text(const BenchReport& report) {
  std::string line = fmt::format("{:<14} {:>10.2f} {}  ({:.2f} to {:.2f}, {} runs", report.test.name,
                                 report.spread.median, report.test.in_milliseconds() ? "ms" : "tokens/s",
                                 report.spread.min, report.spread.max, report.values.size());
  if (report.shares.bandwidth) line += fmt::format("; {:.0f} % of the bandwidth", *report.shares.bandwidth * 100);
  if (report.shares.int_peak) line += fmt::format("; {:.0f} % of the integer peak", *report.shares.int_peak * 100);
  return line + fmt::format("; {} threads, {}, {} kv, {} attention, peak {})", report.threads, report.isa, report.kv,
                            report.attention, bytes_text(static_cast<double>(report.peak_bytes)));
}

std::string profile_json(const BenchReport& report) {
  const StepProfile& profile = *report.profile;
  Json::Array phases;
  for (const StepProfile::Row& row : profile.phases)
    phases.push_back(Json::Object{{"phase", row.phase},
                                  {"ms_per_step", row.ms_per_step},
                                  {"share", row.share},
                                  {"barrier_share", row.barrier_share}});
  return Json(Json::Object{{"test", report.test.name},
                           {"profile", std::move(phases)},
                           {"ms_per_step", profile.ms_per_step},
                           {"barrier_share", profile.barrier_share},
                           {"barriers_per_step", profile.barriers_per_step},
                           {"steps", profile.steps},
                           {"threads", report.threads}})
      .dump();
}

std::string profile_text(const StepProfile& profile) {
  std::string out = fmt::format("  {:<14}{:>10}{:>9}{:>9}", "phase", "ms/step", "share", "waits");
  for (const StepProfile::Row& row : profile.phases)
    out += fmt::format("\n  {:<14}{:>10.3f}{:>7.1f} %{:>7.1f} %", row.phase, row.ms_per_step, row.share * 100,
                       row.barrier_share * 100);
  return out + fmt::format("\n  {:<14}{:>10.3f}{:>7.1f} %{:>7.1f} %  ({:.0f} barriers in a step, mean of {} steps)",
                           "step", profile.ms_per_step, 100.0, profile.barrier_share * 100, profile.barriers_per_step,
                           profile.steps);
}

}  // namespace quern
