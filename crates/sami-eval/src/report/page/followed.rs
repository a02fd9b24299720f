//! Responses followed word by word.

use serde::Serialize;

use super::super::chart::shortened;
use super::super::collect::{Collected, Model};
use super::tables::signed;
use crate::evidence::Evidence;

/// Nats of evidence in one word that give it the strongest colour.
const FULL_COLOUR: f64 = 2.0;
/// Shades on either side of "says nothing".
const SHADES: f64 = 5.0;

#[derive(Serialize)]
pub(super) struct Followed {
    model: String,
    id: String,
    heading: String,
    asked: String,
    constitution: String,
    /// The whole constitution first, then each principle.
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    total: String,
    words: Vec<Shaded>,
    rest: String,
}

#[derive(Serialize)]
struct Shaded {
    /// White space before it, which is left without colour.
    space: String,
    text: String,
    /// `n5` (against) to `p5` (for), or nothing.
    shade: String,
    nats: String,
}

/// The followed responses of the last model that has any, and those of the base to the same queries before them.
pub(super) fn followed(run: &Collected) -> Vec<Followed> {
    let with: Vec<&Model> =
        run.models.iter().filter(|model| model.iteration.is_some() && !model.evidence.is_empty()).collect();
    let Some(last) = with.last() else { return Vec::new() };
    let base = with.first().filter(|base| base.name != last.name);
    let mut followed = Vec::new();
    for evidence in &last.evidence {
        let before = base.and_then(|base| {
            let same = |other: &&Evidence| other.id == evidence.id && other.asked == evidence.asked;
            Some((base.name.as_str(), base.evidence.iter().find(same)?))
        });
        for (model, evidence) in before.into_iter().chain([(last.name.as_str(), evidence)]) {
            followed.push(follow(model, evidence));
        }
    }
    followed
}

fn follow(model: &str, evidence: &Evidence) -> Followed {
    let layer = |name: String, steps: Vec<f64>| Layer {
        name,
        total: signed(steps.iter().sum(), 2),
        words: evidence
            .words
            .iter()
            .zip(steps)
            .enumerate()
            .map(|(index, (word, step))| {
                let text = word.text.trim_start();
                // A response begins at the margin.
                let space =
                    if index == 0 { "" } else { &word.text[..word.text.len() - text.len()] }.to_owned();
                Shaded { space, text: text.to_owned(), shade: shade(step), nats: signed(step, 2) }
            })
            .collect(),
        rest: evidence.rest.clone(),
    };
    let principles = evidence.principles();
    let mut layers = vec![layer("whole constitution".to_owned(), evidence.steps(None))];
    // With one principle, it is the whole constitution.
    if principles.len() > 1 {
        layers.extend(principles.iter().map(|one| layer(one.name.clone(), evidence.steps(Some(one)))));
    }
    let asked = evidence.constitutions.get(evidence.asked);
    Followed {
        model: if model == "iteration-0" { "base".to_owned() } else { model.to_owned() },
        id: evidence.id.clone(),
        heading: shortened(&evidence.query.replace('\n', " "), 120),
        asked: asked.map_or(String::new(), |one| one.id.clone()),
        constitution: asked.map_or(String::new(), |one| one.text.clone()),
        layers,
    }
}

/// `p1` to `p5` for evidence of what was asked, `n1` to `n5` against it; nothing for next to none.
fn shade(nats: f64) -> String {
    let strength = (nats.abs() / FULL_COLOUR * SHADES).round().min(SHADES);
    match strength {
        strength if strength < 1.0 || strength.is_nan() => String::new(),
        strength => format!("{}{strength:.0}", if nats > 0.0 { 'p' } else { 'n' }),
    }
}
