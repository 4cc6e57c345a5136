// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace quern {

/// One measured point. Finite, y at least 0.
struct PlotPoint {
  double x, low, middle, high;
  std::optional<double> limit;  ///< what y could be at most
};

struct PlotSeries {
  std::string label;
  std::vector<PlotPoint> points;  ///< by ascending x
};

enum class PlotScale : uint8_t {
  linear,
  log2,  ///< 0 stands one doubling before the smallest x that is not
};

/// One pair of axes; y begins at 0.
struct PlotPanel {
  std::string heading, x_label, y_label, limit_label;
  PlotScale x_scale = PlotScale::linear;
  std::vector<PlotSeries> series;
};

struct Plot {
  std::string title, subtitle;
  std::vector<PlotPanel> panels;
};

/// A drawing that needs nothing else: panels below each other; of each series a line through the middles, a band from
/// low to high, and a dashed line of limits. Text may be anything; colours follow the reader's light or dark scheme.
std::string svg_text(const Plot& plot);

}  // namespace quern
