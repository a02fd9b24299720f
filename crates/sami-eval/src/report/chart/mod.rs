//! Line charts as SVG.
//!
//! One drawing serves three places. In the page its colours are the page's custom properties, so that it follows light and dark;
//! [`Chart::standalone`] gives them values, for files of their own and for PNG.

mod data;
mod marks;
mod scale;

use std::fmt::Write as _;

pub use data::{Axis, Chart, Point, Rule, Series};
pub(super) use marks::shortened;
use marks::{escape, marker};
use scale::{Scale, nice, number};

const WIDTH: f64 = 460.0;
/// Left of the plot: the name of the axis and its numbers; more where the numbers are long.
const LEFT: f64 = 58.0;
/// The name of the vertical axis, and air on both sides of the numbers.
const BESIDE_NUMBERS: f64 = 29.0;
/// The widest digit.
const DIGIT: f64 = 7.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const PLOT: f64 = 210.0;
/// Under the plot: marks and the name of the axis.
const AXIS: f64 = 44.0;
const LEGEND_LINE: f64 = 18.0;

/// Units between the points of two lines at one iteration.
const ASIDE: f64 = 5.0;

/// Values of the page's custom properties, light.
const LIGHT: &str = "text{font-family:'Sami Plot',sans-serif;font-size:12px;fill:#24292f}.title{font-size:14px;font-weight:600}\
.axis,.tick{stroke:#8c959f;fill:none}.grid{stroke:#d8dee4}.rule{stroke:#57606a;stroke-dasharray:5 4}.rule-text{fill:#57606a;font-size:11px;stroke:#ffffff;stroke-width:3px;paint-order:stroke}\
.line{fill:none;stroke-width:2}.error{stroke-width:1.3}";
const LIGHT_COLOURS: [&str; 8] =
    ["#0b62c4", "#bc4c00", "#1a7f37", "#8250df", "#9a6700", "#bf3989", "#0e7490", "#57606a"];

impl Chart {
    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.values().next().is_none()
    }

    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        let points = self.series.iter().flat_map(|series| &series.points);
        points.flat_map(|point| {
            let (low, high) = point.error.unwrap_or((point.y, point.y));
            [low, point.y, high].into_iter().filter(|value| value.is_finite())
        })
    }

    fn height(&self) -> f64 {
        TOP + PLOT + AXIS + LEGEND_LINE * self.legend_rows() as f64 + 6.0
    }

    fn legend_rows(&self) -> usize {
        if self.series.len() > 1 { self.series.len().div_ceil(2) } else { 0 }
    }

    /// As an element of the page.
    pub fn inline(&self) -> String {
        self.draw("")
    }

    /// As a file of its own, in light colours.
    pub fn standalone(&self) -> String {
        let mut style = format!("<style>{LIGHT}");
        for (index, colour) in LIGHT_COLOURS.iter().enumerate() {
            let _ = write!(style, ".s{index}{{stroke:{colour}}}.f{index}{{fill:{colour}}}");
        }
        style.push_str("</style><rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
        self.draw(&style)
    }

    fn draw(&self, style: &str) -> String {
        let height = self.height();
        let ys = self.y_scale();
        let digits = ys.marks().map(|value| number(value, ys.step).chars().count()).max();
        let left = LEFT.max(BESIDE_NUMBERS + DIGIT * digits.unwrap_or(0) as f64);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>{style}\
             <text class=\"title\" x=\"{left}\" y=\"18\">{title}</text>",
            title = escape(&self.title)
        );
        let xs = self.x_scale(left);
        self.grid(&mut svg, &xs, &ys);
        for (index, series) in self.series.iter().enumerate() {
            // Side by side, so that error bars of near values do not cover each other.
            let side = index as f64 - (self.series.len() as f64 - 1.0) / 2.0;
            let aside = if self.x_axis == Axis::Iterations { side * ASIDE } else { 0.0 };
            series.draw(&mut svg, (index % LIGHT_COLOURS.len(), aside), &xs, &ys);
        }
        // Over the lines, so that their labels can be read.
        self.rules(&mut svg, &xs, &ys);
        self.legend(&mut svg, left);
        svg.push_str("</svg>");
        svg
    }

    fn x_scale(&self, left: f64) -> Scale {
        let xs: Vec<f64> =
            self.series.iter().flat_map(|series| &series.points).map(|point| point.x).collect();
        let low = xs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = xs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low.is_finite() { (low, high) } else { (0.0, 1.0) };
        // Air at both ends, so that error bars do not lie on the frame.
        let air = ((high - low) * 0.04).max(0.25);
        let count = if self.x_axis == Axis::Iterations { (high - low).max(1.0) } else { 6.0 };
        let step = nice((high - low).max(1.0) / count).max(1.0);
        Scale { low: low - air, high: high + air, begin: left, end: WIDTH - RIGHT, step }
    }

    fn y_scale(&self) -> Scale {
        let rules = self.rules.iter().map(|rule| rule.y);
        let values: Vec<f64> = self.values().chain(rules).filter(|value| value.is_finite()).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let size = low.abs().max(high.abs());
        let most = self.most.filter(|most| high <= *most).unwrap_or(f64::INFINITY);
        let (low, high) = match high - low {
            // Nothing, or nothing but zeros.
            _ if !low.is_finite() || size == 0.0 => (0.0, 1.0),
            // Differences in the last digits are no differences: a flat line stands amid its surroundings.
            spread if spread < 0.01 * size => (low - 0.2 * size, (high + 0.2 * size).min(most)),
            _ => (low, high),
        };
        let spread = high - low;
        let step = nice(spread / 5.0);
        // Zero belongs to the picture when it is near.
        let low = if low > 0.0 && low < spread { 0.0 } else { low };
        let top = ((high + spread * 0.06) / step).ceil() * step;
        let (low, high) = ((low / step + 1e-9).floor() * step, top.min(most).max(low + step));
        Scale { low, high, begin: TOP + PLOT, end: TOP, step }
    }

    fn grid(&self, svg: &mut String, xs: &Scale, ys: &Scale) {
        let left = xs.begin;
        for value in ys.marks() {
            let y = ys.at(value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                left - 7.0,
                y + 4.0,
                number(value, ys.step)
            );
        }
        for value in xs.marks() {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                xs.at(value),
                TOP + PLOT + 17.0,
                number(value, xs.step)
            );
        }
        let name = match self.x_axis {
            Axis::Iterations => "iteration",
            Axis::Steps => "optimizer step",
        };
        let (bottom, middle) = (TOP + PLOT, (left + WIDTH - RIGHT) / 2.0);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>\
             <text x=\"14\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {:.1})\">{}</text>",
            WIDTH - RIGHT,
            bottom + 35.0,
            TOP + PLOT / 2.0,
            TOP + PLOT / 2.0,
            escape(&self.y_label)
        );
    }

    fn rules(&self, svg: &mut String, xs: &Scale, ys: &Scale) {
        let left = xs.begin;
        let mut taken: Vec<f64> = Vec::new();
        for rule in &self.rules {
            let y = ys.at(rule.y);
            // Labels of near rules go under their line.
            let near = taken.iter().any(|other| (other - y).abs() < 14.0) || y < TOP + 14.0;
            taken.push(y);
            let _ = write!(
                svg,
                "<line class=\"rule\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"rule-text\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                WIDTH - RIGHT - 3.0,
                if near { y + 13.0 } else { y - 5.0 },
                escape(&rule.label)
            );
        }
    }

    fn legend(&self, svg: &mut String, left: f64) {
        if self.legend_rows() == 0 {
            return;
        }
        let half = (WIDTH - left - RIGHT) / 2.0;
        for (index, series) in self.series.iter().enumerate() {
            let (x, y) = (
                left + half * (index % 2) as f64,
                TOP + PLOT + AXIS + LEGEND_LINE * (index / 2) as f64 + 8.0,
            );
            let colour = index % LIGHT_COLOURS.len();
            let _ = write!(
                svg,
                "<line class=\"line s{colour}\" x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                x + 20.0
            );
            marker(svg, colour, x + 10.0, y);
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                x + 26.0,
                y + 4.0,
                escape(&shortened(&series.name, 26))
            );
        }
    }
}

impl Series {
    fn draw(&self, svg: &mut String, (colour, aside): (usize, f64), xs: &Scale, ys: &Scale) {
        let drawn: Vec<&Point> = self.points.iter().filter(|point| point.y.is_finite()).collect();
        let mut path = String::new();
        for (index, point) in drawn.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", xs.at(point.x) + aside, ys.at(point.y));
        }
        if drawn.len() > 1 {
            let _ = write!(svg, "<path class=\"line s{colour}\" d=\"{path}\"/>");
        }
        for point in &drawn {
            let x = xs.at(point.x) + aside;
            if let Some((low, high)) = point.error {
                let (low, high) = (ys.at(low), ys.at(high));
                let _ = write!(
                    svg,
                    "<path class=\"error s{colour}\" d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8\"/>",
                    x - 4.0,
                    x - 4.0
                );
            }
            // Beyond some thirty points, marks hide the line.
            if drawn.len() <= 30 {
                marker(svg, colour, x, ys.at(point.y));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: Vec<Series>) -> Chart {
        Chart {
            file: "mi".into(),
            title: "MI & \"length\" <b>".into(),
            y_label: "nats".into(),
            x_axis: Axis::Iterations,
            series,
            rules: vec![Rule { y: 0.693, label: "ln 2".into() }],
            most: None,
            note: String::new(),
        }
    }

    #[test]
    fn points_are_where_the_marks_say() {
        let points = vec![Point::new(0.0, 0.0, None), Point::new(2.0, 0.6, Some(0.05))];
        let chart = chart(vec![Series { name: "all".into(), points }]);
        let ys = chart.y_scale();
        assert_eq!((ys.low, ys.step), (0.0, 0.2));
        let bounded = Chart { most: Some(0.7), ..chart.clone() };
        assert_eq!(bounded.y_scale().high, 0.7);
        assert!(ys.high >= 0.693 && (ys.at(0.0) - (TOP + PLOT)).abs() < 1e-9);
        assert_eq!(chart.x_scale(LEFT).marks().collect::<Vec<_>>(), [0.0, 1.0, 2.0]);
        let svg = chart.inline();
        assert!(svg.contains("aria-label=\"MI &amp; &quot;length&quot; &lt;b&gt;\""), "{svg}");
        assert!(svg.contains(">ln 2<") && !svg.contains("<b>"));
        // One error bar, two marks, no legend for a single line.
        assert_eq!((svg.matches("class=\"error").count(), svg.matches("<circle").count()), (1, 2));
    }

    #[test]
    fn long_numbers_stand_clear_of_the_name_of_their_axis() {
        for (size, left) in [(0.6, "58"), (0.0006, "71"), (-4000.0, "64")] {
            let points = vec![Point::new(0.0, 0.0, None), Point::new(2.0, size, None)];
            let series = vec![Series { name: "all".into(), points }];
            let svg = Chart { rules: Vec::new(), ..chart(series) }.inline();
            assert!(svg.contains(&format!("<line class=\"axis\" x1=\"{left}\"")), "{size}: {svg}");
        }
    }

    #[test]
    fn nothing_and_what_is_not_finite_are_drawn_as_such() {
        assert!(chart(Vec::new()).is_empty());
        let points =
            vec![Point::new(0.0, f64::NAN, Some(f64::NAN)), Point::new(1.0, 5.0, Some(f64::INFINITY))];
        let chart = chart(vec![Series { name: "x".into(), points }]);
        let svg = chart.standalone();
        assert!(!chart.is_empty() && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 1);
        // All the same value: still a scale, and no louder than others.
        let flat = |y: f64, most| {
            let points = vec![Point::new(0.0, y, None), Point::new(1.0, y, Some(0.0))];
            let series = vec![Series { name: "x".into(), points }];
            let Scale { low, high, step, .. } =
                Chart { rules: Vec::new(), series, most, ..chart.clone() }.y_scale();
            [low, high, step].map(|value| (value * 100.0).round() / 100.0)
        };
        assert_eq!(flat(0.5, Some(1.0)), [0.4, 0.65, 0.05]);
        assert_eq!(flat(1.0, Some(1.0)), [0.8, 1.0, 0.05]);
        assert_eq!(flat(0.0, None), [0.0, 1.2, 0.2]);
    }
}
