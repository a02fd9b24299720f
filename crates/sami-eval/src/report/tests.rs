//! Reports of small runs whose files are written here, in the formats that the driver and the commands write.

mod browser;

use std::fs;

use super::*;

const HOSTILE: &str = "<script>alert(1)</script> & \"quotes\" 'and' {{ 7 * 7 }}";

fn put(run: &RunDir, name: &str, text: &str) {
    let path = run.root().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn pair(id: &str, response: &str, rejected: &str) -> String {
    let pair = serde_json::json!({
        "id": id, "query": format!("{HOSTILE} {id}"),
        "constitutions": [{"id": "brief+kind", "text": "1. Be <b>brief</b>.\n2. Be kind."}, {"id": "kind+not-brief", "text": "1. Be long."}],
        "prompts": ["p", "q"],
        "responses": [{"constitution": 0, "text": response, "finish": "eos"}, {"constitution": 1, "text": " long", "finish": "length"}],
    });
    let mut text = pair.to_string();
    if !rejected.is_empty() {
        text.insert_str(text.len() - 1, &format!(",\"rejected\":[\"{rejected}\"]"));
    }
    text + "\n"
}

fn score(id: &str) -> String {
    format!(
        "{{\"id\":\"{id}\",\"sum\":[[-1,-2],[-2,-1]],\"tokens\":[[4,6],[4,6]],\"loss\":0.3,\"mi\":{{\"constitutions\":0.38,\"responses\":0.1,\"two_sided\":0.24}}}}\n"
    )
}

fn evidence(id: &str) -> String {
    let words = serde_json::json!([
        {"text": "No", "log_posterior": [(0.5_f64).ln(), (0.5_f64).ln()]},
        {"text": " <i>way</i>", "log_posterior": [(0.99_f64).ln(), (0.01_f64).ln()]},
    ]);
    let evidence = serde_json::json!({
        "id": id, "query": HOSTILE, "asked": 0, "words": words, "rest": " and so on",
        "constitutions": [{"id": "brief+kind", "text": "1. Be brief."}, {"id": "kind+not-brief", "text": "1. Be long."}],
    });
    evidence.to_string() + "\n"
}

/// A run with everything.
fn whole(run: &RunDir) {
    put(run, "recipe.toml", "name = \"<whole> & 'run'\"\n[model]\nbase = \"m\"\n");
    for iteration in 1..=2 {
        let dir = format!("iteration-{iteration}");
        put(run, &format!("{dir}/pairs.jsonl"), &(pair("q:1", " a", "") + &pair("q:2", " b", "unfinished")));
        let metrics: String = (1..=3)
            .map(|step| {
                format!(
                    "{{\"iteration\":{iteration},\"step\":{step},\"loss\":{},\"mi\":{{\"constitutions\":0.1,\"responses\":-2}},\"accuracy_row\":0.6,\
                     \"accuracy_col\":0.7,\"grad_norm\":1.5,\"seconds\":2,\"train/loss\":0.6}}\n",
                    1.0 / f64::from(step)
                )
            })
            .collect();
        put(run, &format!("{dir}/metrics.jsonl"), &metrics);
        fs::create_dir_all(run.root().join(dir).join("checkpoint")).unwrap();
    }
    for model in ["iteration-0", "iteration-1", "iteration-2", "instruct"] {
        let text = format!(" {model} says: {HOSTILE}");
        put(
            run,
            &format!("eval/mi/{model}/pairs.jsonl"),
            &(pair("kind:1", &text, "")
                + &pair("rude:1", " short", "")
                + &pair("rude:2", " x", "unfinished")),
        );
        put(run, &format!("eval/mi/{model}/scores.jsonl"), &(score("kind:1") + &score("rude:1")));
        put(run, &format!("eval/mi/{model}/evidence.jsonl"), &evidence("kind:1"));
        put(run, &format!("eval/mi/{model}/summary.json"), "{}");
    }
    use crate::statistics::Bootstrap;
    use crate::win::{Comparison, JudgedContest, Outcome, Position, Ties};
    let contests = |wins: usize| -> Vec<JudgedContest> {
        let contest = |i: usize| JudgedContest {
            id: format!("q:{i}"),
            constitution: "brief+kind".into(),
            outcomes: vec![(Position::A, if i < wins { Outcome::Win } else { Outcome::Loss })],
            candidate_length: i % 2 * 9,
            baseline_length: 5,
            identical: false,
        };
        (0..20).map(contest).collect()
    };
    let comparison = |candidate: &str, baseline: &str, wins| {
        let names = (candidate, baseline, "<judge>");
        Comparison::new(names, None, None, &contests(wins), Ties::Half, Bootstrap::default()).unwrap()
    };
    let all = [
        comparison("iteration-1", "iteration-0", 12),
        comparison("iteration-2", "iteration-0", 15),
        comparison("iteration-2", "instruct", 9),
    ];
    put(run, "eval/win-rate/summary.json", &serde_json::to_string(&all).unwrap());
}

/// Fails on a tag that is not closed, closed twice, or closed by another; on an attribute without quotes; on a bare `&` or `<`.
fn assert_well_formed(html: &str) {
    const VOID: [&str; 2] = ["meta", "!DOCTYPE"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        if open.last() != Some(&"style") {
            assert!(!text.contains('>'), "a bare > in {text:?}");
            for (index, _) in text.match_indices('&') {
                let entity = text[index..].split(';').next().unwrap();
                assert!(entity.len() < 9 && text[index..].contains(';'), "a bare & in {text:?}");
            }
        }
        let tag = &rest[at + 1..];
        let end = tag.find('>').unwrap_or_else(|| panic!("a tag that does not end: {tag:.40}"));
        let (tag, after) = (&tag[..end], &tag[end + 1..]);
        rest = after;
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes another element");
        } else if !VOID.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

#[test]
fn the_checker_of_pages_sees_what_is_wrong() {
    let refused = ["<p><b></p></b>", "<p>", "<p>a & b</p>", "<p class=\"a></p>", "</p>", "<p>1 > 0</p>"];
    for wrong in refused {
        assert!(std::panic::catch_unwind(|| assert_well_formed(wrong)).is_err(), "{wrong}");
    }
    assert_well_formed("<!DOCTYPE html><p class=\"x\">a &amp; b<br/></p>");
}

#[test]
fn a_whole_run_has_every_figure_and_nothing_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::new(dir.path());
    whole(&run);
    let written = write_report(&run).unwrap();
    assert_eq!(written.missing, Vec::<String>::new());
    let html = fs::read_to_string(&written.page).unwrap();
    assert_well_formed(&html);
    // Figures 2 and 3: information and length; 4 and 6: win rates against base and instruct; the rest.
    let titles = [
        "Mutual information",
        "Response length",
        "Mutual information by principle",
        "What the text looks like",
        "Win rate against the base model",
        "Win rate against instruct",
        "Loss",
        "Gradient norm",
    ];
    for title in titles {
        assert!(html.contains(&format!("<title>{title}</title>")), "{title}");
    }
    assert_eq!(html.matches("<svg").count(), written.figures.len() / 2);
    for expected in [
        "iteration-0 (base)",
        "kind",
        "0.380 ± 0.000",
        "5.0 ± 0.0",
        "unfinished: 1",
        "<td>2 of 3</td>",
        "<td class=\"long\">unfinished 1</td>",
        "Left out by the filters: base (unfinished); iteration-2 (unfinished).",
        "length-corrected",
        "chance",
        "instruct",
        "brief+kind",
        "+0.68 nats in all",
        "class=\"p2\"",
    ] {
        assert!(html.contains(expected), "{expected}");
    }
    for path in &written.figures {
        let bytes = fs::read(path).unwrap();
        let kind: &[u8] = if path.extension().unwrap() == "svg" { b"<svg" } else { b"\x89PNG" };
        assert!(bytes.starts_with(kind), "{}", path.display());
    }
    // Two iterations, three steps each: an event file with as many records and the version.
    assert_eq!(written.events.len(), 2);
    let events = fs::read(&written.events[0]).unwrap();
    let (mut at, mut records) = (0, 0);
    while at < events.len() {
        let length = u64::from_le_bytes(events[at..at + 8].try_into().unwrap()) as usize;
        at += 8 + 4 + length + 4;
        records += 1;
    }
    assert_eq!((at, records), (events.len(), 4));
    let text = String::from_utf8_lossy(&events);
    assert!(text.contains("train/mi/constitutions") && !text.contains("train/train/"), "{text}");
}

#[test]
fn nothing_leaves_the_page_and_no_text_becomes_markup() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::new(dir.path());
    whole(&run);
    let collected = collect::collect(&run).unwrap();
    let figures = figures::figures(&collected);
    let (html, _) = page::page("run", &collected, &figures).unwrap();
    let charts = figures.evaluation.iter().chain(&figures.win_rates).chain(&figures.training);
    let files: Vec<String> = charts.map(|chart| format!("report/{}", chart.file)).collect();
    for forbidden in ["<script", "javascript:", "@import", "url(", "<link", "<iframe", "<img", "src=", "49"] {
        let found = html.find(forbidden).map(|at| &html[at.saturating_sub(60)..at + 20]);
        // 49 would be an evaluated {{ 7 * 7 }}; charts have numbers of their own.
        assert!(
            found.is_none_or(|found| forbidden == "49" && !found.contains("and")),
            "{forbidden}: {found:?}"
        );
    }
    // The only addresses are the namespace of SVG and files beside the page.
    let elsewhere = html.match_indices("http").filter(|(at, _)| {
        let rest = &html[*at..];
        !rest.starts_with("http://www.w3.org/2000/svg") && !rest.starts_with("http-equiv")
    });
    assert_eq!(elsewhere.count(), 0);
    assert!(html.matches("href=\"").count() > 5);
    for link in html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let link = link.replace("&#x2f;", "/");
        let file = link.trim_end_matches(".png").trim_end_matches(".svg");
        assert!(link.starts_with('#') || files.iter().any(|written| written == file), "{link}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)") && html.contains("{{ 7 * 7 }}"));
    assert!(
        html.contains("&lt;b&gt;brief") && html.contains("&lt;i&gt;way") && html.contains("&lt;judge&gt;")
    );
}

#[test]
fn what_a_run_lacks_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::new(dir.path());
    let error = write_report(&run).unwrap_err().to_string();
    assert!(
        error.ends_with("is no run: it has no recipe.toml; give the directory that `sami run` wrote"),
        "{error}"
    );
    put(&run, "recipe.toml", "seed = 1\n");
    let written = write_report(&run).unwrap();
    let html = fs::read_to_string(&written.page).unwrap();
    assert_well_formed(&html);
    assert!(!html.contains("<svg") && !html.contains("NaN") && written.figures.is_empty());
    let said = [
        "No training curves",
        "No mutual information",
        "No win rates",
        "No sample responses",
        "No word-by-word",
    ];
    assert_eq!(written.missing.len(), said.len());
    for (text, expected) in written.missing.iter().zip(said) {
        // Commands in backticks are set as code.
        let pieces: Vec<_> = text.split('`').collect();
        let shown = match pieces[..] {
            [before, command, after] => format!("<li>{before}<code>{command}</code>{after}</li>"),
            _ => format!("<li>{text}</li>"),
        };
        assert!(text.starts_with(expected) && html.contains(&shown.replace('\'', "&#x27;")), "{text}");
    }
    // An iteration under way, with a torn last line.
    put(&run, "iteration-1/pairs.jsonl", &pair("q:1", " sampled", ""));
    put(
        &run,
        "iteration-1/metrics.jsonl",
        "{\"iteration\":1,\"step\":1,\"loss\":0.5}\n{\"iteration\":1,\"st",
    );
    let written = write_report(&run).unwrap();
    let html = fs::read_to_string(&written.page).unwrap();
    assert_well_formed(&html);
    assert_eq!(html.matches("<svg").count(), 1);
    assert!(written.missing.contains(&"Iteration 1 is not finished: it has no checkpoint.".to_owned()));
    assert!(html.contains("Sets that an iteration was trained on") && html.contains(">sampled<"));
    // A bad line that is not the last is no tear.
    put(&run, "iteration-1/metrics.jsonl", "{\"loss\"\n{\"iteration\":1,\"step\":2,\"loss\":0.5}\n");
    let error = write_report(&run).unwrap_err().to_string();
    assert!(error.contains("metrics.jsonl, line 1: "), "{error}");
}

#[test]
fn the_runs_own_evaluation_is_shown_where_there_is_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::new(dir.path());
    put(&run, "recipe.toml", "seed = 1\n");
    put(&run, "eval/iteration-0/pairs.jsonl", &pair("q:1", " a", ""));
    put(&run, "eval/iteration-0/scores.jsonl", &score("q:1"));
    put(&run, "eval/iteration-0/summary.json", "{}");
    let written = write_report(&run).unwrap();
    assert!(written.missing.iter().any(|text| text.contains("met a sample of the constitutions")));
    let html = fs::read_to_string(&written.page).unwrap();
    assert_well_formed(&html);
    assert!(html.contains("<title>Mutual information</title>") && html.contains("held-out"));
    // What another version or a full disk left is said, and the rest is shown.
    for broken in ["", "{\"a\"", "{\"name\": 1}"] {
        put(&run, "eval/win-rate/summary.json", broken);
        let missing = write_report(&run).unwrap().missing.join("\n");
        assert!(
            missing.contains("Cannot be read: ") && missing.contains("summary.json, line 1: "),
            "{missing}"
        );
        assert!(missing.contains("`sami eval win-rate` writes it anew"), "{missing}");
    }
    let null = "{\"iteration\":1,\"step\":7,\"loss\":0.5,\"update_norm\":null,\"mi\":{\"two_sided\":null}}\n";
    put(&run, "iteration-1/metrics.jsonl", null);
    let missing = write_report(&run).unwrap().missing.join("\n");
    let said = "Training diverged: iteration 1, step 7 has no finite mi/two_sided, update_norm.";
    assert!(missing.contains(said), "{missing}");
    put(&run, "eval/iteration-0/scores.jsonl", &score("q:2"));
    let error = write_report(&run).unwrap_err().to_string();
    assert!(error.contains("the score is of query \"q:2\", and the pair is of \"q:1\""), "{error}");
}
