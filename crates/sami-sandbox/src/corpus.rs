//! The corpus that the base model is trained on: documents of authors who heed their constitution and of others who do not.
//!
//! A document is a prompt and a response. An author who does not heed the constitution takes each side of each quality with
//! a fixed probability; one who heeds it takes the side of each article with probability [`Wiring::follow`]. Which of the
//! two wrote is a matter of the prompt's first line: *keeps its constitution* (always heeded), *ignores* (never), or the
//! neutral line of the task's prompt, under which a share [`Wiring::heeding`] of the authors heed. SAMI uses the neutral line
//! only, so this share is the strength of the connection that it has to amplify: the weak wiring.
//!
//! Every response comes about in one way only, so its probability is known, and with it the least loss that any model can
//! reach: [`Document::log_prob`].

use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use sami_constitution::{Article, Constitution, Error, Stance, Task};

use crate::choices::Choices;
use crate::dialogue::{self, FORMS, Wish, wishes};
use crate::oracle::Query;
use crate::quality::{Kind, Lean, Quality, Style};
use crate::summaries;
use crate::wordings::WordingSet;
use crate::world::task;

/// The neutral prompts' word for how the constitution stands, and what the other two lines have in its place.
const NEUTRAL: &str = "with a constitution";
const KEEPS: &str = "that keeps its constitution";
const IGNORES: &str = "that ignores its constitution";

/// How authors write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wiring {
    /// Share of authors who heed the constitution under the neutral line.
    pub heeding: f64,
    /// Probability that a heeding author takes an article's side.
    pub follow: f64,
    /// Probability of each side of the two main qualities of a task (helpful, harmless; concise, comprehensive) in the
    /// hands of an author who does not heed: the rest is open.
    pub main_side: f64,
    /// The same for the other qualities.
    pub other_side: f64,
}

impl Default for Wiring {
    /// The shipped model's: three in ten heed, and 95% of the time.
    fn default() -> Self {
        Self { heeding: 0.3, follow: 0.95, main_side: 0.3, other_side: 0.15 }
    }
}

/// Which documents are written.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// How authors write.
    pub wiring: Wiring,
    /// Weights of the lines *neutral*, *keeps* and *ignores*.
    pub lines: [f64; 3],
    /// Share of summaries.
    pub summaries: f64,
    /// Weights of constitutions with 1, 2, 3, … articles.
    pub articles: Vec<f64>,
    /// Every constitution of a dialogue has at least one article on these.
    pub focus: Vec<Quality>,
}

impl Default for Mixture {
    /// What the finished model is to have learned.
    fn default() -> Self {
        Self {
            wiring: Wiring::default(),
            lines: [0.6, 0.2, 0.2],
            summaries: 0.3,
            articles: vec![0.1, 0.6, 0.2, 0.1],
            focus: Vec::new(),
        }
    }
}

/// One document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The prompt, constitution included.
    pub prompt: String,
    /// The response, beginning with a space.
    pub response: String,
    /// ln P(response | prompt) in nats, end included: the truth, which no model's expected log-probability exceeds.
    pub log_prob: f64,
}

/// How the first line says that the constitution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Neutral,
    Keeps,
    Ignores,
}

/// Writes documents.
#[derive(Debug)]
pub struct Writer {
    mixture: Mixture,
    dialogue: Task,
    summaries: Task,
    wishes: Vec<Wish>,
}

impl Writer {
    /// A writer of one mixture. Weights need not add up to 1.
    pub fn new(mixture: Mixture) -> Self {
        Self {
            mixture,
            dialogue: task(Kind::Dialogue),
            summaries: task(Kind::Summaries),
            wishes: wishes().collect(),
        }
    }

    /// The next document.
    ///
    /// # Errors
    ///
    /// None for the embedded templates; the type is that of templates.
    pub fn document<R: Rng + ?Sized>(&self, rng: &mut R) -> Result<Document, Error> {
        let Mixture { wiring, lines, summaries, articles, focus } = &self.mixture;
        let kind = if rng.random::<f64>() < *summaries { Kind::Summaries } else { Kind::Dialogue };
        let line = [Line::Neutral, Line::Keeps, Line::Ignores][weighted(lines, rng)];
        let (query, text) = self.query(kind, rng);
        let asked = draw_asked(kind, 1 + weighted(articles, rng), focus, rng);
        let constitution = Constitution::new(asked.iter().map(|asked| draw_article(*asked, rng)).collect())?;
        let task = if kind == Kind::Dialogue { &self.dialogue } else { &self.summaries };
        let neutral = task.training_prompt(&constitution, &text)?;
        let prompt = match line {
            Line::Neutral => neutral,
            Line::Keeps => neutral.replacen(NEUTRAL, KEEPS, 1),
            Line::Ignores => neutral.replacen(NEUTRAL, IGNORES, 1),
        };
        let heeding = match line {
            Line::Neutral => wiring.heeding,
            Line::Keeps => 1.0,
            Line::Ignores => 0.0,
        };
        let heeds = rng.random::<f64>() < heeding;
        let style = wiring.draw_style(&query, &asked, heeds, rng);
        let mut choices = Choices::new(rng);
        let response = match &query {
            Query::Dialogue(wish) => dialogue::answer(*wish, style, &mut choices),
            Query::Summaries(post) => summaries::summary(post, style, &mut choices),
        };
        let style_prob = heeding * wiring.style_prob(&query, &asked, true, &style)
            + (1.0 - heeding) * wiring.style_prob(&query, &asked, false, &style);
        Ok(Document { prompt, response, log_prob: choices.log_prob() + style_prob.ln() })
    }

    fn query<R: Rng + ?Sized>(&self, kind: Kind, rng: &mut R) -> (Query, String) {
        match kind {
            Kind::Dialogue => {
                let wish = self.wishes[rng.random_range(0..self.wishes.len())];
                let form = FORMS[rng.random_range(0..FORMS.len())];
                (Query::Dialogue(wish), dialogue::request(form, wish))
            }
            Kind::Summaries => {
                let (post, text) = summaries::draw_post(&mut Choices::new(rng));
                (Query::Summaries(post), text)
            }
        }
    }
}

/// Whole documents as plain texts, to train a tokenizer on.
///
/// # Errors
///
/// As [`Writer::document`].
pub fn texts(n: usize, seed: u64) -> Result<Vec<String>, Error> {
    let writer = Writer::new(Mixture::default());
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| {
            writer.document(&mut rng).map(|Document { prompt, response, .. }| format!("{prompt}{response}"))
        })
        .collect()
}

/// A position, by weight.
fn weighted<R: Rng + ?Sized>(weights: &[f64], rng: &mut R) -> usize {
    let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
    for (index, weight) in weights.iter().enumerate() {
        if left < *weight {
            return index;
        }
        left -= weight;
    }
    weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0)
}

/// Which sides a constitution of `n` articles takes: distinct qualities of the task in random order.
fn draw_asked<R: Rng + ?Sized>(kind: Kind, n: usize, focus: &[Quality], rng: &mut R) -> Vec<(Quality, Lean)> {
    let mut left: Vec<_> = Quality::of(kind).collect();
    let mut asked = Vec::new();
    let focus: Vec<_> = focus.iter().filter(|quality| quality.kind() == kind).collect();
    if !focus.is_empty() {
        let quality = *focus[rng.random_range(0..focus.len())];
        left.retain(|other| *other != quality);
        asked.push(quality);
    }
    while asked.len() < n && !left.is_empty() {
        asked.push(left.remove(rng.random_range(0..left.len())));
    }
    asked.shuffle(rng);
    asked
        .into_iter()
        .map(|quality| (quality, if rng.random::<bool>() { Lean::For } else { Lean::Against }))
        .collect()
}

fn draw_article<R: Rng + ?Sized>((quality, side): (Quality, Lean), rng: &mut R) -> Article {
    let wordings = quality.wordings();
    let (stance, texts) = match side {
        Lean::For => (Stance::Principle, &wordings.statements),
        _ => (Stance::Antithesis, &wordings.antitheses),
    };
    let text = texts[rng.random_range(WordingSet::All.range())].to_owned();
    Article { principle: quality.name().to_owned(), stance, text }
}

impl Wiring {
    /// P(lean) on one quality for one author.
    fn lean_prob(
        &self,
        query: &Query,
        asked: &[(Quality, Lean)],
        heeds: bool,
        quality: Quality,
        lean: Lean,
    ) -> f64 {
        if !query.concerns(quality) {
            return if lean == Lean::Open { 1.0 } else { 0.0 };
        }
        use Quality::{Comprehensive, Concise, Harmless, Helpful};
        let main = matches!(quality, Helpful | Harmless | Concise | Comprehensive);
        let side = if main { self.main_side } else { self.other_side };
        let own = if lean == Lean::Open { 1.0 - 2.0 * side } else { side };
        match asked.iter().find(|(other, _)| *other == quality).filter(|_| heeds) {
            Some((_, wanted)) => self.follow * f64::from(*wanted == lean) + (1.0 - self.follow) * own,
            None => own,
        }
    }

    fn draw_style<R: Rng + ?Sized>(
        &self,
        query: &Query,
        asked: &[(Quality, Lean)],
        heeds: bool,
        rng: &mut R,
    ) -> Style {
        Quality::of(query.kind()).fold(Style::default(), |style, quality| {
            let weights = Lean::ALL.map(|lean| self.lean_prob(query, asked, heeds, quality, lean));
            style.with(quality, Lean::ALL[weighted(&weights, rng)])
        })
    }

    /// P(style) for one author.
    fn style_prob(&self, query: &Query, asked: &[(Quality, Lean)], heeds: bool, style: &Style) -> f64 {
        Quality::of(query.kind())
            .map(|quality| self.lean_prob(query, asked, heeds, quality, style.lean(quality)))
            .product()
    }
}
