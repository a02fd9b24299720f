//! The page, from the figures of the runs alone.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sami::sandbox::exam::Marks;

use crate::support::Outcome;
use crate::{QUERIES, Run, STUDIES};

/// Writes `docs/sandbox.md` and its plots.
pub(crate) fn write(runs: &[Run]) -> Outcome<()> {
    if runs.is_empty() {
        return Err("there is no finished run".into());
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut page = include_str!("head.md").to_owned();
    main_result(&mut page, runs)?;
    variants(&mut page, runs)?;
    generalisation(&mut page, runs)?;
    collapse(&mut page, runs)?;
    fs::write(docs.join("sandbox.md"), page)?;
    fs::write(docs.join("sandbox-iterations.svg"), iterations_plot(runs))?;
    fs::write(docs.join("sandbox-information.svg"), scatter_plot(runs))?;
    println!("docs/sandbox.md from {} runs", runs.len());
    Ok(())
}

/// Mean over seeds and, with more than one, its standard error.
fn shown(values: &[f64], decimals: usize) -> String {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return format!("{mean:.decimals$}");
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    format!("{mean:.decimals$} ± {:.decimals$}", (squares / (n - 1.0) / n).sqrt())
}

fn of<'a>(runs: &'a [Run], recipe: &str) -> Vec<&'a Run> {
    runs.iter().filter(|run| run.recipe == recipe).collect()
}

/// One row of figures over marks of several seeds.
fn row(page: &mut String, name: &str, seeds: usize, marks: &[&Marks]) -> Outcome<()> {
    let over = |figure: &dyn Fn(&Marks) -> f64, decimals| {
        shown(&marks.iter().map(|marks| figure(marks)).collect::<Vec<_>>(), decimals)
    };
    writeln!(
        page,
        "| {name} | {seeds} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        over(&|m| m.mi.constitutions.mean, 2),
        over(&|m| m.mi.responses.mean, 2),
        over(&|m| m.mi.two_sided.mean, 2),
        over(&|m| 100.0 * m.win_rate.rate, 1),
        over(&|m| 100.0 * m.follows, 0),
        over(&|m| 100.0 * m.gibberish, 1),
        over(&|m| 100.0 * m.off_topic, 1),
        over(&|m| m.tokens, 1),
        over(&|m| m.kl.mean, 2),
    )?;
    Ok(())
}

const HEADINGS: &str = "seeds | MI constitutions | MI responses | MI two-sided | win % | follows % | gibberish % | off topic % | tokens | KL |\n|---|---|---|---|---|---|---|---|---|---|---|";

fn main_result(page: &mut String, runs: &[Run]) -> Outcome<()> {
    for (recipe, title) in [("dialogue", "Dialogue"), ("summaries", "Summaries")] {
        let runs = of(runs, recipe);
        let Some(first) = runs.first() else { continue };
        writeln!(
            page,
            "\n## {title}\n\n`recipes/sandbox/{recipe}.toml`: {} queries under every constitution, so {} answers per exam and seed; ± is the standard error over seeds. A seed draws queries, constitutions, responses and the exam's answers; the base model is the same.\n",
            QUERIES[0], first.marks[0].win_rate.contests
        )?;
        if recipe == "dialogue" {
            writeln!(page, "![mutual information and win rate by iteration](sandbox-iterations.svg)\n")?;
        }
        writeln!(page, "| model | {HEADINGS}")?;
        for iteration in 0..first.marks.len() {
            let marks: Vec<_> = runs.iter().map(|run| &run.marks[iteration]).collect();
            let name = if iteration == 0 { "base".to_owned() } else { format!("iteration {iteration}") };
            row(page, &name, runs.len(), &marks)?;
        }
        writeln!(
            page,
            "\nPer seed, after the last iteration (win rate with its Wilson interval over queries):\n\n| seed | MI constitutions | win % | gibberish % | KL |\n|---|---|---|---|---|"
        )?;
        for run in &runs {
            let Some(m) = run.marks.last() else { continue };
            let (mi, rate) = (&m.mi.constitutions, &m.win_rate);
            writeln!(
                page,
                "| {} | {:.2} ± {:.2} | {:.1} [{:.1}, {:.1}] | {:.1} | {:.2} |",
                run.seed,
                mi.mean,
                mi.standard_error.unwrap_or(f64::NAN),
                100.0 * rate.rate,
                100.0 * rate.wilson.low,
                100.0 * rate.wilson.high,
                100.0 * m.gibberish,
                m.kl.mean
            )?;
        }
    }
    Ok(())
}

fn variants(page: &mut String, runs: &[Run]) -> Outcome<()> {
    writeln!(
        page,
        "\n## Variants\n\nDialogue, after the last iteration. Every line is a recipe in `recipes/sandbox` that differs from `dialogue` in what its name says.\n\n| recipe | {HEADINGS}"
    )?;
    for (recipe, _) in STUDIES.iter().filter(|(recipe, _)| *recipe != "summaries") {
        let runs = of(runs, recipe);
        let marks: Vec<_> = runs.iter().filter_map(|run| run.marks.last()).collect();
        if !marks.is_empty() {
            row(page, recipe, runs.len(), &marks)?;
        }
    }
    let all: Vec<(f64, f64)> =
        trained(runs).map(|m| (m.mi.constitutions.mean, 100.0 * m.win_rate.rate)).collect();
    let (mi, win): (Vec<f64>, Vec<f64>) = all.iter().copied().unzip();
    writeln!(
        page,
        "\nOver all {} trained models of all dialogue runs and iterations, mutual information and win rate correlate with {:.2} (Pearson), {:.2} among the ranks (Spearman).\n\n![win rate against mutual information](sandbox-information.svg)",
        all.len(),
        pearson(&mi, &win),
        pearson(&ranks(&mi), &ranks(&win))
    )?;
    Ok(())
}

fn generalisation(page: &mut String, runs: &[Run]) -> Outcome<()> {
    writeln!(
        page,
        "\n## What training gave no example of\n\nWin rate against the base and mutual information over constitutions of the last model, on {} queries under every constitution, with other words for the trained principles, with principles that were never trained, and on the other task.\n\n| recipe | seeds | exam | MI constitutions | win % | follows % | gibberish % |\n|---|---|---|---|---|---|---|",
        QUERIES[1]
    )?;
    for (recipe, _) in STUDIES {
        let runs = of(runs, recipe);
        let Some(first) = runs.first() else { continue };
        for (index, (name, _)) in first.others.iter().enumerate() {
            let marks: Vec<_> = runs.iter().map(|run| &run.others[index].1).collect();
            let over = |figure: &dyn Fn(&Marks) -> f64, decimals| {
                shown(&marks.iter().map(|marks| figure(marks)).collect::<Vec<_>>(), decimals)
            };
            writeln!(
                page,
                "| {recipe} | {} | {name} | {} | {} | {} | {} |",
                runs.len(),
                over(&|m| m.mi.constitutions.mean, 2),
                over(&|m| 100.0 * m.win_rate.rate, 1),
                over(&|m| 100.0 * m.follows, 0),
                over(&|m| 100.0 * m.gibberish, 1),
            )?;
        }
    }
    Ok(())
}

/// A figure of one model.
type Signal = fn(&Marks) -> f64;

/// Signals that need no oracle, beside the oracle's rate of gibberish.
fn collapse(page: &mut String, runs: &[Run]) -> Outcome<()> {
    let signals: [(&str, Signal); 7] = [
        ("MI over constitutions", |m| m.mi.constitutions.mean),
        ("KL to the base, nats per response", |m| m.kl.mean),
        ("KL to the base, nats per token", |m| m.kl.mean / m.tokens),
        ("−log π_base per token", |m| m.base_nats),
        ("entropy per token", |m| m.entropy),
        ("repeated runs of three words", |m| m.repetition),
        ("tokens", |m| m.tokens),
    ];
    let all: Vec<&Marks> = trained(runs).collect();
    let gibberish: Vec<f64> = all.iter().map(|m| m.gibberish).collect();
    let clean: Vec<&&Marks> = all.iter().filter(|m| m.gibberish <= 0.1).collect();
    let broken: Vec<&&Marks> = all.iter().filter(|m| m.gibberish > 0.2).collect();
    writeln!(
        page,
        "\n## Which signal sees text fall apart\n\nAll {} trained models of all dialogue runs and iterations. Rank correlation of signals that need no oracle with the oracle's rate of gibberish, and their ranges where at most 10% ({} models) and more than 20% ({} models) are gibberish.\n\n| signal | Spearman | at most 10% | more than 20% |\n|---|---|---|---|",
        all.len(),
        clean.len(),
        broken.len()
    )?;
    let range = |models: &[&&Marks], signal: fn(&Marks) -> f64| {
        let values = models.iter().map(|m| signal(m));
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        if models.is_empty() { "none".to_owned() } else { format!("{low:.3} to {high:.3}") }
    };
    for (name, signal) in signals {
        let values: Vec<f64> = all.iter().map(|m| signal(m)).collect();
        writeln!(
            page,
            "| {name} | {:+.2} | {} | {} |",
            pearson(&ranks(&values), &ranks(&gibberish)),
            range(&clean, signal),
            range(&broken, signal)
        )?;
    }
    let leaks = all.iter().map(|m| m.leaks).fold(0.0, f64::max);
    writeln!(
        page,
        "\nCopying four words of the constitution into the answer never exceeded {:.1}% of answers.",
        100.0 * leaks
    )?;
    guards(page, runs)
}

/// What a guard looks at: the base's marks, then the model's.
type Watched = fn(&Marks, &Marks) -> f64;

/// More gibberish than this is a run that fell apart.
const BROKEN: f64 = 0.1;

/// For every guard the limit that would have told sound models from broken ones best, and what it would have done.
fn guards(page: &mut String, runs: &[Run]) -> Outcome<()> {
    let watched: [(&str, Watched); 6] = [
        ("`kl`: KL to the base, nats per token", |_, m| m.kl.mean / m.tokens),
        ("`surprise`: −log π_base per token, beyond the base's", |base, m| m.base_nats - base.base_nats),
        ("`entropy`: loss of entropy, nats per token", |base, m| base.entropy - m.entropy),
        ("`repetition`: beyond the base's", |base, m| m.repetition - base.repetition),
        ("`length`: ratio to the base's, or its inverse", |base, m| {
            (m.tokens / base.tokens).max(base.tokens / m.tokens)
        }),
        ("fall of the mutual information, nats", |base, m| {
            base.mi.constitutions.mean - m.mi.constitutions.mean
        }),
    ];
    let runs: Vec<&Run> = runs.iter().filter(|run| run.recipe != "summaries").collect();
    let broken = |m: &Marks| m.gibberish > BROKEN;
    let ends = runs.iter().filter(|run| run.marks.iter().any(broken)).count();
    writeln!(
        page,
        "\n### Which guard stops in time\n\nA guard ends a run at the first model that passes its limit, and keeps the one before. Of the {} runs, {ends} came to a model with more than {:.0}% gibberish. For each guard, the limit with the fewest mistakes on these runs (models let through although they are broken, and sound ones refused), and what it would have done with it. Chosen and counted on the same runs, so this is the best that each can do here.\n\n| guard | limit | broken runs stopped in time | sound models refused | worst gibberish kept |\n|---|---|---|---|---|",
        runs.len(),
        100.0 * BROKEN
    )?;
    for (name, watch) in watched {
        let verdict = |limit: f64| Verdict::of(&runs, watch, limit);
        let values = runs.iter().flat_map(|run| run.marks.iter().map(|m| watch(&run.marks[0], m)));
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        // Half-way between neighbours, so that the limit is as far as it can be from both.
        let limits = values.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).chain(values.last().copied());
        let best = limits.min_by(|a, b| {
            verdict(*a).mistakes().cmp(&verdict(*b).mistakes()).then(b.total_cmp(a))
        });
        let Some(limit) = best else { continue };
        let Verdict { stopped, refused, sound, worst, .. } = verdict(limit);
        writeln!(page, "| {name} | {limit:.3} | {stopped} of {ends} | {refused} of {sound} | {:.1}% |", 100.0 * worst)?;
    }
    Ok(())
}

/// What a guard with one limit does to all runs.
struct Verdict {
    /// Runs that it ends before a broken model is kept.
    stopped: usize,
    /// Runs in which it keeps one.
    missed: usize,
    /// Models that it refuses though they are not broken, and neither was any before.
    refused: usize,
    /// Models that are not broken.
    sound: usize,
    /// The most gibberish in a model that it keeps.
    worst: f64,
}

impl Verdict {
    fn of(runs: &[&Run], watch: Watched, limit: f64) -> Self {
        let mut verdict = Self { stopped: 0, missed: 0, refused: 0, sound: 0, worst: 0.0 };
        for run in runs {
            let (base, trained) = (&run.marks[0], &run.marks[1..]);
            let kept = trained.iter().take_while(|m| watch(base, m) <= limit).count();
            let whole = trained.iter().take_while(|m| m.gibberish <= BROKEN).count();
            verdict.worst = trained[..kept].iter().map(|m| m.gibberish).fold(verdict.worst, f64::max);
            verdict.sound += whole;
            verdict.refused += whole.saturating_sub(kept);
            verdict.missed += usize::from(kept > whole);
            verdict.stopped += usize::from(whole < trained.len() && kept <= whole);
        }
        verdict
    }

    fn mistakes(&self) -> usize {
        self.missed + self.refused
    }
}

/// Marks of all trained models of dialogue.
fn trained(runs: &[Run]) -> impl Iterator<Item = &Marks> {
    runs.iter().filter(|run| run.recipe != "summaries").flat_map(|run| run.marks.iter().skip(1))
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let [mx, my] = [x, y].map(|values| values.iter().sum::<f64>() / n);
    let covariance: f64 = x.iter().zip(y).map(|(a, b)| (a - mx) * (b - my)).sum();
    let spread =
        |values: &[f64], mean: f64| values.iter().map(|value| (value - mean).powi(2)).sum::<f64>().sqrt();
    covariance / (spread(x, mx) * spread(y, my))
}

/// Ranks from 0; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |value: f64| values.iter().filter(|other| **other < value).count() as f64;
    let equal = |value: f64| values.iter().filter(|other| **other == value).count() as f64;
    values.iter().map(|value| below(*value) + 0.5 * (equal(*value) - 1.0)).collect()
}

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

fn iterations_plot(runs: &[Run]) -> String {
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

fn scatter_plot(runs: &[Run]) -> String {
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
