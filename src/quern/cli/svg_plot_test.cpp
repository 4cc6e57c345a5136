// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/svg_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace quern {
namespace {

using testing::HasSubstr;
using testing::Not;

/// What is wrong with the text as XML (elements, quoted attributes, the entities that need no declaration); empty:
/// nothing. Knows no comments, declarations or namespaces.
std::string xml_fault(std::string_view text) {
  std::vector<std::string> open;
  int roots = 0;
  while (!text.empty()) {
    if (text[0] == '&') {
      const std::string_view entity = text.substr(0, text.find(';') + 1);
      if (entity != "&amp;" && entity != "&lt;" && entity != "&gt;") return "entity " + std::string(entity);
      text.remove_prefix(entity.size());
      continue;
    }
    if (static_cast<unsigned char>(text[0]) < 0x20 && text[0] != '\n') return "control character";
    if (text[0] == '>') return "bare >";
    if (text[0] != '<') {
      if (open.empty() && text[0] != '\n') return "text outside the root";
      text.remove_prefix(1);
      continue;
    }
    const size_t end = text.find('>');
    if (end == std::string_view::npos) return "open tag";
    std::string_view tag = text.substr(1, end - 1);
    text.remove_prefix(end + 1);
    if (tag.starts_with('/')) {
      if (open.empty() || open.back() != tag.substr(1)) return "unexpected " + std::string(tag);
      open.pop_back();
      continue;
    }
    const bool empty = tag.ends_with('/');
    if (empty) tag.remove_suffix(1);
    const std::string name(tag.substr(0, tag.find(' ')));
    tag.remove_prefix(name.size());
    while (!tag.empty()) {  // ` key="value"`
      const size_t equals = tag.find("=\""), close = tag.find('"', equals + 2);
      if (tag[0] != ' ' || equals == std::string_view::npos || close == std::string_view::npos)
        return "attributes of " + name;
      if (tag.substr(0, close).find('<') != std::string_view::npos) return "< in an attribute";
      tag.remove_prefix(close + 1);
    }
    if (open.empty() && ++roots > 1) return "two roots";
    if (!empty) open.push_back(name);
  }
  return open.empty() && roots == 1 ? "" : "not closed";
}

int count(std::string_view text, std::string_view word) {
  int n = 0;
  for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) ++n;
  return n;
}

Plot example() {
  return {.title = "model",
          .subtitle = "2 threads",
          .panels = {{.heading = "Reading",
                      .x_label = "tokens",
                      .y_label = "tokens/s",
                      .limit_label = "limit",
                      .x_scale = PlotScale::log2,
                      .series = {{"one", {{128, 90, 100, 110, 400}, {256, 190, 200, 210, 400}, {512, 1, 2, 3, 400}}},
                                 {"two", {{128, 900, 1000, 1100, {}}}}}},
                     {.heading = "Writing",
                      .x_label = "threads",
                      .y_label = "ms",
                      .limit_label = "limit",
                      .x_scale = PlotScale::linear,
                      .series = {{"three", {{1, 0.1, 0.2, 0.3, {}}, {2, 0.1, 0.1, 0.1, {}}}}}}}};
}

TEST(XmlFault, sees_what_is_wrong) {
  EXPECT_EQ(xml_fault("<a b=\"1\"><c/>x &amp; y</a>\n"), "");
  for (const char* wrong : {"", "<a>", "<a></b>", "<a/><b/>", "<a b=1/>", "<a>&x;</a>", "<a>&</a>", "<a b=\"<\"/>",
                            "x<a/>", "<a", "<a>\x01</a>", "<a>></a>", "</a>"})
    EXPECT_NE(xml_fault(wrong), "") << wrong;
}

TEST(SvgPlot, is_one_well_formed_element) {
  const std::string svg = svg_text(example());
  EXPECT_EQ(xml_fault(svg), "");
  EXPECT_TRUE(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" ")) << svg.substr(0, 80);
  EXPECT_EQ(xml_fault(svg_text({})), "");
}

TEST(SvgPlot, every_series_has_its_line_its_band_and_its_points) {
  const std::string svg = svg_text(example());
  EXPECT_EQ(count(svg, "<polyline class=\"line "), 3);
  EXPECT_EQ(count(svg, "<polygon class=\"band "), 3);
  EXPECT_EQ(count(svg, "<circle "), 6);
  EXPECT_EQ(count(svg, "<polyline class=\"limit "), 1);
  EXPECT_EQ(count(svg, ">limit</text>"), 1) << "only where there is one";
  for (const char* word : {">model</text>", ">2 threads</text>", ">Reading</text>", ">one</text>", ">three</text>",
                           ">1,000</text>", ">512</text>", ">0.1</text>", ">ms</text>"})
    EXPECT_THAT(svg, HasSubstr(word));
  EXPECT_THAT(svg, HasSubstr("one, 128 tokens: 100 tokens/s (90.00 to 110)"));
}

/// The numbers of a polyline, pairs of x and y.
std::vector<std::pair<double, double>> corners(std::string_view svg, std::string_view style) {
  std::string_view points = svg.substr(svg.find("<polyline class=\"" + std::string(style) + "\""));
  points = points.substr(points.find("points=\"") + 8);
  std::string numbers(points.substr(0, points.find('"')));
  std::vector<std::pair<double, double>> out;
  double x = 0, y = 0;
  for (int used = 0, at = 0; sscanf(numbers.c_str() + at, "%lf,%lf %n", &x, &y, &used) == 2; at += used)
    out.emplace_back(x, y);
  return out;
}

TEST(SvgPlot, doubling_is_a_step_of_equal_width_and_zero_one_more) {
  Plot plot = example();
  plot.panels[0].series = {{"one", {{0, 1, 1, 1, {}}, {512, 2, 2, 2, {}}, {1024, 3, 3, 3, {}}, {2048, 4, 4, 4, {}}}}};
  const auto line = corners(svg_text(plot), "line s0");
  ASSERT_EQ(line.size(), 4u);
  for (size_t i = 2; i < line.size(); ++i)
    EXPECT_NEAR(line[i].first - line[i - 1].first, line[1].first - line[0].first, 0.2);
  for (size_t i = 2; i < line.size(); ++i)  // and y is linear, upwards
    EXPECT_NEAR(line[i].second - line[i - 1].second, line[1].second - line[0].second, 0.2);
  EXPECT_LT(line[1].second, line[0].second);
}

TEST(SvgPlot, hostile_text_stays_text) {
  Plot plot = example();
  plot.title = "a<b>&\"c\x01\xff\xef\xbf\xbf</svg>";
  plot.panels[0].series[0].label = plot.panels[0].heading = plot.subtitle = plot.title;
  const std::string svg = svg_text(plot);
  EXPECT_EQ(xml_fault(svg), "");
  EXPECT_THAT(svg, HasSubstr("a&lt;b&gt;&amp;\"c"));
  EXPECT_THAT(svg, Not(HasSubstr("\xef\xbf\xbf")));
}

TEST(SvgPlot, odd_numbers_have_a_drawing_too) {
  for (const std::vector<PlotPoint>& points : {std::vector<PlotPoint>{},
                                               {{0, 0, 0, 0, {}}},
                                               {{1, 0, 0, 0, 0}},
                                               {{3, 1e-9, 2e-9, 3e-9, {}}},
                                               {{1, 1e15, 1e15, 1e15, {}}, {1e9, 2, 2, 2, 1e16}}}) {
    Plot plot = example();
    for (PlotPanel& panel : plot.panels) panel.series = {{"x", points}};
    const std::string svg = svg_text(plot);
    EXPECT_EQ(xml_fault(svg), "");
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
    EXPECT_LT(svg.size(), 20000u);
  }
}

TEST(SvgPlot, ticks_that_would_touch_are_left_out) {
  Plot plot = example();
  plot.panels[1].series[0].points.clear();
  for (int i = 1; i <= 100; ++i) plot.panels[1].series[0].points.push_back({i * 1.0, 1, 1, 1, {}});
  plot.panels.erase(plot.panels.begin());
  const std::string svg = svg_text(plot);
  EXPECT_THAT(svg, HasSubstr(">1</text>"));
  EXPECT_LT(count(svg, "text-anchor=\"middle\""), 20);
}

}  // namespace
}  // namespace quern
