//! The page's plots.

use std::fmt::Write as _;

use sami::sandbox::exam::Marks;

use super::{of, trained};
use crate::Run;

/// Where a point of the plot stands.
type ToPixels<'a> = dyn Fn(f64, f64) -> (f64, f64) + 'a;

/// A panel of 320 × 220 at `left`: axes with names and bounds, and what is drawn in them.
fn panel(
    svg: &mut String,
    left: f64,
    names: [&str; 2],
    x: [f64; 2],
    y: [f64; 2],
    draw: &dyn Fn(&ToPixels<'_>) -> String,
) {
    let at = |vx: f64, vy: f64| {
        (left + 60.0 + 320.0 * (vx - x[0]) / (x[1] - x[0]), 20.0 + 220.0 * (y[1] - vy) / (y[1] - y[0]))
    };
    let (l, r) = (left + 60.0, left + 380.0);
    let _ = write!(svg, "<path d='M{l} 20V240H{r}' fill='none' stroke='#888'/>");
    for (value, anchor) in [(x[0], "start"), (x[1], "end")] {
        let _ =
            write!(svg, "<text x='{:.0}' y='256' text-anchor='{anchor}'>{value}</text>", at(value, y[0]).0);
    }
    for value in y {
        let _ = write!(
            svg,
            "<text x='{:.0}' y='{:.0}' text-anchor='end'>{value}</text>",
            l - 6.0,
            at(x[0], value).1 + 4.0
        );
    }
    let _ = write!(svg, "<text x='{:.0}' y='256' text-anchor='middle'>{}</text>", left + 220.0, names[0]);
    let _ = write!(svg, "<text x='{:.0}' y='14'>{}</text>", l, names[1]);
    svg.push_str(&draw(&at));
}

fn svg(width: u32, body: &str) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='270' font-family='sans-serif' font-size='12'>\
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
    panel(&mut body, 0.0, ["iteration", "MI over constitutions, nats"], [0.0, 3.0], [0.0, 1.4], &|at| {
        lines(|m| m.mi.constitutions.mean, at)
    });
    panel(&mut body, 400.0, ["iteration", "win rate against the base, %"], [0.0, 3.0], [40.0, 90.0], &|at| {
        lines(|m| 100.0 * m.win_rate.rate, at)
    });
    svg(800, &body)
}

pub(super) fn scatter_plot(runs: &[Run]) -> String {
    let mut body = String::new();
    panel(
        &mut body,
        0.0,
        ["MI over constitutions, nats", "win rate, % (red: more than 20% gibberish)"],
        [0.0, 1.4],
        [0.0, 100.0],
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
