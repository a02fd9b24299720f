//! What a chart shows.

/// A point with its error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where on the horizontal axis.
    pub x: f64,
    /// Where on the vertical axis.
    pub y: f64,
    /// Ends of the error bar.
    pub error: Option<(f64, f64)>,
}

impl Point {
    /// A point with ± `error`.
    pub fn new(x: f64, y: f64, error: Option<f64>) -> Self {
        Self { x, y, error: error.filter(|error| error.is_finite()).map(|error| (y - error, y + error)) }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<Point>,
}

/// A horizontal line.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Where.
    pub y: f64,
    /// What it says.
    pub label: String,
}

/// What the horizontal axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Iterations: a mark at every whole number.
    Iterations,
    /// Optimizer steps.
    Steps,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// The name of its file.
    pub file: String,
    /// What it shows.
    pub title: String,
    /// The vertical axis, with its unit.
    pub y_label: String,
    /// The horizontal axis.
    pub x_axis: Axis,
    /// Lines; at most eight can be told apart.
    pub series: Vec<Series>,
    /// Horizontal lines: caps, chance, reference models.
    pub rules: Vec<Rule>,
    /// What no value can exceed, where there is such a bound: the axis ends there.
    pub most: Option<f64>,
    /// A sentence about how to read it.
    pub note: String,
}
