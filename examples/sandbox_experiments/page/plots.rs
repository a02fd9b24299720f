//! The page's plots.

use std::fmt::Write as _;

use sami::sandbox::exam::Marks;

use super::{of, trained};
use crate::Run;

const ITERATIONS: [f64; 4] = [0.0, 1.0, 2.0, 3.0];
const NATS: [f64; 8] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4];

/// Where a point of the plot stands.
type ToPixels<'a> = dyn Fn(f64, f64) -> (f64, f64) + 'a;

/// A panel of 320 × 220 at `left`: axes with names, a grid at the given values, and what is drawn in them. The first and last value of
/// an axis are its ends.
fn panel(
    svg: &mut String,
    left: f64,
    names: [&str; 2],
    x: &[f64],
    y: &[f64],
    draw: &dyn Fn(&ToPixels<'_>) -> String,
) {
    let share = |value: f64, axis: &[f64]| (value - axis[0]) / (axis[axis.len() - 1] - axis[0]);
    let at = |vx: f64, vy: f64| (left + 60.0 + 320.0 * share(vx, x), 240.0 - 220.0 * share(vy, y));
    let (l, r) = (left + 60.0, left + 380.0);
    for &value in x {
        let x = at(value, y[0]).0;
        let _ = write!(svg, "<path d='M{x:.1} 20V240' stroke='#ddd'/>");
        let _ = write!(svg, "<text x='{x:.1}' y='256' text-anchor='middle'>{value}</text>");
    }
    for &value in y {
        let y = at(x[0], value).1;
        let _ = write!(svg, "<path d='M{l} {y:.1}H{r}' stroke='#ddd'/>");
        let _ = write!(svg, "<text x='{:.0}' y='{:.1}' text-anchor='end'>{value}</text>", l - 6.0, y + 4.0);
    }
    let _ = write!(svg, "<path d='M{l} 20V240H{r}' fill='none' stroke='#888'/>");
    let _ = write!(svg, "<text x='{:.0}' y='274' text-anchor='middle'>{}</text>", left + 220.0, names[0]);
    let _ = write!(svg, "<text x='{l:.0}' y='12'>{}</text>", names[1]);
    svg.push_str(&draw(&at));
}

fn svg(width: u32, body: &str) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='284' font-family='sans-serif' font-size='12'>\
         <rect width='100%' height='100%' fill='white'/>{body}</svg>\n"
    )
}

pub(super) fn iterations_plot(runs: &[Run]) -> String {
    let runs = of(runs, "dialogue");
    let lines = |figure: fn(&Marks) -> f64, at: &ToPixels<'_>| {
        runs.iter().fold(String::new(), |mut body, run| {
            let points = run.marks.iter().enumerate().map(|(iteration, m)| at(iteration as f64, figure(m)));
            let path: Vec<_> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = write!(
                body,
                "<polyline points='{}' fill='none' stroke='#2a6f97' stroke-width='2' opacity='.7'/>",
                path.join(" ")
            );
            body
        })
    };
    let mut body = String::new();
    panel(&mut body, 0.0, ["iteration", "MI over constitutions, nats"], &ITERATIONS, &NATS, &|at| {
        lines(|m| m.mi.constitutions.mean, at)
    });
    panel(
        &mut body,
        400.0,
        ["iteration", "win rate against the base, %"],
        &ITERATIONS,
        &[40.0, 50.0, 60.0, 70.0, 80.0],
        &|at| lines(|m| 100.0 * m.win_rate.rate, at),
    );
    svg(800, &body)
}

pub(super) fn scatter_plot(runs: &[Run]) -> String {
    let mut body = String::new();
    panel(
        &mut body,
        0.0,
        ["MI over constitutions, nats", "win rate, % (red: more than 20% gibberish)"],
        &NATS,
        &[0.0, 25.0, 50.0, 75.0, 100.0],
        &|at| {
            trained(runs).fold(String::new(), |mut dots, m| {
                let (x, y) = at(m.mi.constitutions.mean, 100.0 * m.win_rate.rate);
                let colour = if m.gibberish > 0.2 { "#c1121f" } else { "#2a6f97" };
                let _ = write!(dots, "<circle cx='{x:.1}' cy='{y:.1}' r='4' fill='{colour}' opacity='.7'/>");
                dots
            })
        },
    );
    svg(400, &body)
}
