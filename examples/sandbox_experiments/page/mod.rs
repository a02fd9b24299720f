//! The page, from the figures of the runs alone.

mod collapse;
mod plots;
mod statistics;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sami::sandbox::exam::Marks;

use self::collapse::collapse;
use self::plots::{iterations_plot, scatter_plot};
use self::statistics::{pearson, ranks, shown};
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
    wiring(&mut page, runs)?;
    generalisation(&mut page, runs)?;
    collapse(&mut page, runs)?;
    fs::write(docs.join("sandbox.md"), page)?;
    fs::write(docs.join("sandbox-iterations.svg"), iterations_plot(runs))?;
    fs::write(docs.join("sandbox-information.svg"), scatter_plot(runs))?;
    println!("docs/sandbox.md from {} runs", runs.len());
    Ok(())
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
        "\n## Variants\n\nDialogue, after the last iteration. Every line is a recipe in `recipes/sandbox`. `temperature-1` samples at temperature 1 where `dialogue` is greedy, as the paper is; the others differ from `temperature-1` in what their names say.\n\n| recipe | {HEADINGS}"
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

/// What each share of heeding authors in the base's corpus comes to.
fn wiring(page: &mut String, runs: &[Run]) -> Outcome<()> {
    writeln!(
        page,
        "\n## How strong the connection must be\n\nBases whose corpus heeds the constitution more or less often, and what the same twelve steps make of them.\n\n| heeding authors | seeds | base: MI, nats | base: follows % | MI, nats | win % | follows % | gibberish % | KL |\n|---|---|---|---|---|---|---|---|---|"
    )?;
    for (recipe, share) in [("wiring-05", 5), ("wiring-10", 10), ("temperature-1", 30), ("wiring-60", 60)] {
        let runs = of(runs, recipe);
        let ends: Vec<[&Marks; 2]> =
            runs.iter().filter_map(|run| Some([run.marks.first()?, run.marks.last()?])).collect();
        if ends.is_empty() {
            continue;
        }
        let over = |end: usize, figure: &dyn Fn(&Marks) -> f64, decimals| {
            shown(&ends.iter().map(|ends| figure(ends[end])).collect::<Vec<_>>(), decimals)
        };
        writeln!(
            page,
            "| {share}% | {} | {} | {} | {} | {} | {} | {} | {} |",
            ends.len(),
            over(0, &|m| m.mi.constitutions.mean, 2),
            over(0, &|m| 100.0 * m.follows, 0),
            over(1, &|m| m.mi.constitutions.mean, 2),
            over(1, &|m| 100.0 * m.win_rate.rate, 1),
            over(1, &|m| 100.0 * m.follows, 0),
            over(1, &|m| 100.0 * m.gibberish, 1),
            over(1, &|m| m.kl.mean, 2),
        )?;
    }
    Ok(())
}

/// Exams whose principles a recipe did train.
const TRAINED: [(&str, &str); 3] = [
    ("four-principles", "courteous, formal"),
    ("varied-principles", "courteous, formal"),
    ("varied-principles", "orderly, hopeful"),
];

fn generalisation(page: &mut String, runs: &[Run]) -> Outcome<()> {
    let Some(exams) = runs.first().map(|run| &run.others) else { return Ok(()) };
    writeln!(
        page,
        "\n## What training gave no example of\n\nWin rate against the base in %, and in brackets the mutual information over constitutions in nats, of the last model on {} queries under every constitution: with other words for the trained principles, with principles that were never trained (but for those in *italics*), and on the other task. `dialogue` and most others train two principles, `four-principles` four at a time, `varied-principles` pairs out of six.\n",
        QUERIES[1]
    )?;
    write!(page, "| recipe | seeds |")?;
    for (name, _) in exams {
        write!(page, " {name} |")?;
    }
    writeln!(page, "\n|---|---|{}", "---|".repeat(exams.len()))?;
    for (recipe, _) in STUDIES {
        let runs = of(runs, recipe);
        if runs.is_empty() {
            continue;
        }
        write!(page, "| {recipe} | {} |", runs.len())?;
        for (index, (name, _)) in exams.iter().enumerate() {
            let over = |figure: &dyn Fn(&Marks) -> f64, decimals| {
                shown(&runs.iter().map(|run| figure(&run.others[index].1)).collect::<Vec<_>>(), decimals)
            };
            let mark = if TRAINED.contains(&(recipe, name)) { "*" } else { "" };
            let (win, mi) = (over(&|m| 100.0 * m.win_rate.rate, 1), over(&|m| m.mi.constitutions.mean, 2));
            write!(page, " {mark}{win} ({mi}){mark} |")?;
        }
        writeln!(page)?;
    }
    Ok(())
}

/// Marks of all trained models of dialogue.
fn trained(runs: &[Run]) -> impl Iterator<Item = &Marks> {
    runs.iter().filter(|run| run.recipe != "summaries").flat_map(|run| run.marks.iter().skip(1))
}
