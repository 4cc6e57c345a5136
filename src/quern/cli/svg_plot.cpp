// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "quern/base/utf8.h"

namespace quern {
namespace {

// Pixels.
constexpr double kWidth = 760, kLeft = 72, kRight = 732, kHeader = 68, kFooter = 12;
constexpr double kHeading = 26, kLegendRow = 20, kLegendGap = 12, kPlotHeight = 240, kAxisRoom = 62;
constexpr double kLetter = 6.7;  // of the legend's font, on average and a little more
constexpr double kTickRoom = 52;
constexpr int kColours = 6;

// Blue, vermillion, green, purple, orange, grey: told apart by all eyes, lighter on dark paper.
constexpr std::string_view kStyle =
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:12px}\n"
    ".title{font-size:18px;font-weight:600}.heading{font-size:14px;font-weight:600}\n"
    ".paper{fill:#ffffff}.ink{fill:#1f2328}.soft{fill:#59636e}\n"
    ".grid{stroke:#e4e8ec;stroke-width:1}.axis{stroke:#8c959f;stroke-width:1}.soft-line{stroke:#59636e}\n"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\n"
    ".limit{fill:none;stroke-width:1.5;stroke-dasharray:6 4;stroke-opacity:.75}\n"
    ".band{fill-opacity:.18;stroke:none}.whisker{stroke-width:1.5;stroke-opacity:.5}\n"
    ".s0{stroke:#0969da}.f0{fill:#0969da}.s1{stroke:#c24e00}.f1{fill:#c24e00}.s2{stroke:#1a7f5a}.f2{fill:#1a7f5a}\n"
    ".s3{stroke:#8250df}.f3{fill:#8250df}.s4{stroke:#9a6700}.f4{fill:#9a6700}.s5{stroke:#57606a}.f5{fill:#57606a}\n"
    "@media (prefers-color-scheme:dark){\n"
    ".paper{fill:#15181c}.ink{fill:#e6edf3}.soft{fill:#9198a1}\n"
    ".grid{stroke:#2a2f36}.axis{stroke:#656d76}.soft-line{stroke:#9198a1}\n"
    ".s0{stroke:#58a6ff}.f0{fill:#58a6ff}.s1{stroke:#f0883e}.f1{fill:#f0883e}.s2{stroke:#3fb98b}.f2{fill:#3fb98b}\n"
    ".s3{stroke:#bc8cff}.f3{fill:#bc8cff}.s4{stroke:#d9a520}.f4{fill:#d9a520}.s5{stroke:#afb8c1}.f5{fill:#afb8c1}\n"
    "}\n";

/// As text of an element: markup escaped, what XML cannot hold replaced.
std::string escaped(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Utf8Step step = utf8_decode(text);
    const char32_t c = step.code_point;
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else
      utf8_append(out, c < 0x20 ? ' ' : c == 0xFFFE || c == 0xFFFF ? 0xFFFD : c);
    text.remove_prefix(step.length);
  }
  return out;
}

/// 1234567.5 as "1,234,567.5".
std::string number_text(double value, int decimals) {
  std::string digits = fmt::format("{:.{}f}", value, decimals);
  const size_t point = std::min(digits.find('.'), digits.size());
  for (auto at = static_cast<int>(point) - 3; at > 0; at -= 3) digits.insert(at, ",");
  return digits;
}

std::string value_text(double value) { return number_text(value, value < 100 ? 2 : 0); }

/// 1, 2, 2.5 or 5 times a power of ten: about five of them reach `most`.
double tick_step(double most) {
  const double raw = most > 0 ? most / 5 : 1;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (double factor : {1.0, 2.0, 2.5, 5.0})
    if (factor * power >= raw * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

int decimals_of(double step) {
  int decimals = 0;
  for (double scaled = step; decimals < 9 && std::abs(scaled - std::round(scaled)) > 1e-6; scaled *= 10) ++decimals;
  return decimals;
}

std::string text(std::string_view style, double x, double y, std::string_view anchor, std::string_view words) {
  return fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", style, x, y, anchor,
                     escaped(words));
}

std::string line(std::string_view style, double x1, double y1, double x2, double y2) {
  return fmt::format("<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>\n", style, x1, y1,
                     x2, y2);
}

/// Draws one panel whose upper edge lies at `top`.
class PanelDrawing {
 public:
  PanelDrawing(const PlotPanel& panel, double top) : panel_(panel), top_(top) {
    double least = std::numeric_limits<double>::infinity(), y_most = 0;
    for (const PlotSeries& series : panel.series)
      for (const PlotPoint& point : series.points) {
        if (point.x > 0) least = std::min(least, point.x);
        y_most = std::max({y_most, point.high, point.limit.value_or(0)});
        has_limit_ = has_limit_ || point.limit.has_value();
        xs_.push_back(point.x);
      }
    zero_ = std::isfinite(least) ? std::log2(least) - 1 : 0;
    std::ranges::sort(xs_);
    xs_.erase(std::unique(xs_.begin(), xs_.end()), xs_.end());
    if (!xs_.empty()) first_ = scaled(xs_.front()), last_ = scaled(xs_.back());
    if (first_ == last_) first_ -= 1, last_ += 1;
    y_step_ = tick_step(y_most);
    y_most_ = std::max(std::ceil(y_most / y_step_ - 1e-9), 1.0) * y_step_;
    lay_out_legend();
    plot_top_ = top_ + kHeading + legend_rows_ * kLegendRow + kLegendGap;
  }

  double bottom() const { return plot_top_ + kPlotHeight + kAxisRoom; }

  std::string draw() const {
    std::string out = text("heading ink", kLeft, top_ + 16, "start", panel_.heading) + legend() + axes();
    for (size_t i = 0; i < panel_.series.size(); ++i) out += band(i);
    for (size_t i = 0; i < panel_.series.size(); ++i) out += limit_line(i);
    for (size_t i = 0; i < panel_.series.size(); ++i) out += middle_line(i);
    return out;
  }

 private:
  struct LegendItem {
    double x, y;
    std::string label;
    int series;  ///< kLimits: the dashed line
  };
  static constexpr int kLimits = -1;

  double scaled(double x) const {
    if (panel_.x_scale == PlotScale::linear) return x;
    return x > 0 ? std::log2(x) : zero_;
  }
  double px(double x) const {
    constexpr double kInset = 14;  // the first and the last point stay off the edges
    return kLeft + kInset + (scaled(x) - first_) / (last_ - first_) * (kRight - kLeft - 2 * kInset);
  }
  double py(double y) const { return plot_top_ + kPlotHeight * (1 - y / y_most_); }

  void lay_out_legend() {
    double x = kLeft;
    const auto add = [&](std::string label, int series) {
      const double width = 44 + kLetter * static_cast<double>(label.size());
      if (x > kLeft && x + width > kRight) x = kLeft, ++legend_rows_;
      legend_.push_back({x, top_ + kHeading + legend_rows_ * kLegendRow - kLegendRow / 2, std::move(label), series});
      x += width;
    };
    for (size_t i = 0; i < panel_.series.size(); ++i) add(panel_.series[i].label, static_cast<int>(i));
    if (has_limit_) add(panel_.limit_label, kLimits);
  }

  std::string legend() const {
    std::string out;
    for (const LegendItem& item : legend_) {
      const std::string style =
          item.series == kLimits ? "limit soft-line" : fmt::format("line s{}", item.series % kColours);
      out += line(style, item.x, item.y, item.x + 20, item.y);
      out += text("ink", item.x + 26, item.y + 4, "start", item.label);
    }
    return out;
  }

  std::string axes() const {
    std::string out;
    const int decimals = decimals_of(y_step_);
    for (int i = 0; i * y_step_ <= y_most_ * (1 + 1e-9); ++i) {
      const double y = py(i * y_step_);
      out += line(i == 0 ? "axis" : "grid", kLeft, y, kRight, y);
      out += text("soft", kLeft - 8, y + 4, "end", number_text(i * y_step_, decimals));
    }
    const double bottom = py(0);
    double last = -kTickRoom;
    for (double value : xs_) {
      const double x = px(value);
      out += line("axis", x, bottom, x, bottom + 4);
      if (x - last < kTickRoom) continue;
      out += text("soft", x, bottom + 18, "middle", number_text(value, decimals_of(value)));
      last = x;
    }
    out += text("soft", (kLeft + kRight) / 2, bottom + 38, "middle", panel_.x_label);
    const double middle = (py(0) + py(y_most_)) / 2;
    return out + fmt::format(
                     "<text class=\"soft\" transform=\"translate(16 {:.1f}) rotate(-90)\" "
                     "text-anchor=\"middle\">{}</text>\n",
                     middle, escaped(panel_.y_label));
  }

  std::string band(size_t i) const {
    const std::vector<PlotPoint>& points = panel_.series[i].points;
    std::string corners, out;
    for (auto point = points.begin(); point != points.end(); ++point)
      corners += fmt::format("{:.1f},{:.1f} ", px(point->x), py(point->high));
    for (auto point = points.rbegin(); point != points.rend(); ++point)
      corners += fmt::format("{:.1f},{:.1f} ", px(point->x), py(point->low));
    out += fmt::format("<polygon class=\"band f{}\" points=\"{}\"/>\n", i % kColours, corners);
    for (const PlotPoint& point : points)
      out += line(fmt::format("whisker s{}", i % kColours), px(point.x), py(point.high), px(point.x), py(point.low));
    return out;
  }

  std::string limit_line(size_t i) const {
    std::string corners;
    for (const PlotPoint& point : panel_.series[i].points)
      if (point.limit) corners += fmt::format("{:.1f},{:.1f} ", px(point.x), py(*point.limit));
    if (corners.empty()) return {};
    return fmt::format("<polyline class=\"limit s{}\" points=\"{}\"/>\n", i % kColours, corners);
  }

  std::string middle_line(size_t i) const {
    const PlotSeries& series = panel_.series[i];
    std::string corners, dots;
    for (const PlotPoint& point : series.points) {
      corners += fmt::format("{:.1f},{:.1f} ", px(point.x), py(point.middle));
      dots += fmt::format(
          "<circle class=\"f{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\"><title>{}</title></circle>\n", i % kColours,
          px(point.x), py(point.middle),
          escaped(fmt::format("{}, {} {}: {} {} ({} to {})", series.label, number_text(point.x, decimals_of(point.x)),
                              panel_.x_label, value_text(point.middle), panel_.y_label, value_text(point.low),
                              value_text(point.high))));
    }
    return fmt::format("<polyline class=\"line s{}\" points=\"{}\"/>\n{}", i % kColours, corners, dots);
  }

  const PlotPanel& panel_;
  const double top_;
  double plot_top_ = 0;
  std::vector<double> xs_;  // where a tick belongs, ascending
  double zero_ = 0, first_ = 0, last_ = 1;
  double y_step_ = 1, y_most_ = 1;
  bool has_limit_ = false;
  int legend_rows_ = 1;
  std::vector<LegendItem> legend_;
};

}  // namespace

std::string svg_text(const Plot& plot) {
  std::string panels;
  double bottom = kHeader;
  for (const PlotPanel& panel : plot.panels) {
    const PanelDrawing drawing(panel, bottom);
    panels += drawing.draw();
    bottom = drawing.bottom();
  }
  bottom += kFooter;
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
             "viewBox=\"0 0 {0:.0f} {1:.0f}\" role=\"img\">\n<title>{2}</title>\n<style>\n{3}</style>\n"
             "<rect class=\"paper\" width=\"{0:.0f}\" height=\"{1:.0f}\"/>\n",
             kWidth, bottom, escaped(plot.title), kStyle) +
         text("title ink", kLeft, 32, "start", plot.title) + text("soft", kLeft, 52, "start", plot.subtitle) + panels +
         "</svg>\n";
}

}  // namespace quern
