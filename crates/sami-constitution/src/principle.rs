//! Principles with their antitheses, and the TOML file that people edit them in.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::Spanned;

use crate::constitution::Stance;
use crate::contrast_file::ContrastFile;
use crate::error::{Error, Location};
use crate::plain_text::plain_text;
use crate::space::MAX_PRINCIPLES;

/// One principle in several wordings, and its opposite in several wordings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principle {
    /// A short name, for example `helpful`: it makes up constitution ids.
    pub name: String,
    /// Wordings of what is wanted; each draws one of them.
    pub statements: Vec<String>,
    /// Wordings of its opposite.
    pub antitheses: Vec<String>,
}

impl Principle {
    /// The wordings of one side.
    pub fn variants(&self, stance: Stance) -> &[String] {
        match stance {
            Stance::Principle => &self.statements,
            Stance::Antithesis => &self.antitheses,
        }
    }
}

/// What is wrong with a set of principles.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PrincipleProblem {
    /// Nothing to sample constitutions from.
    #[error("there is no principle; write at least one [[principle]] with name, statements and antitheses")]
    None,
    /// Their combinations would not fit a 64-bit number.
    #[error("{0} principles are too many; use at most {MAX_PRINCIPLES}")]
    TooMany(usize),
    /// Their contrasts would not fit a directory.
    #[error(
        "{0} principles make too many contrasts for files of their own; use at most 10, or the principles themselves"
    )]
    TooManyForFiles(usize),
    /// Names make up ids.
    #[error(
        "principle name {0:?} cannot be used; use letters, digits, \"-\", \"_\" and spaces, and do not begin with \"not-\""
    )]
    Name(String),
    /// Two principles of one name.
    #[error("principle {0} appears twice; give each its own name and list its wordings under one")]
    Duplicate(String),
    /// A side without any wording.
    #[error("principle {name} has no {side}; write at least one")]
    NoVariant {
        /// The principle.
        name: String,
        /// `statements` or `antitheses`.
        side: &'static str,
    },
    /// A wording that says nothing.
    #[error("principle {name}: {side}[{index}] is empty; write a sentence or remove it")]
    EmptyVariant {
        /// The principle.
        name: String,
        /// `statements` or `antitheses`.
        side: &'static str,
        /// Counted from 0.
        index: usize,
    },
    /// A wording over several lines would break the numbering of constitutions.
    #[error("principle {name}: {side}[{index}] has more than one line; join its lines")]
    ManyLines {
        /// The principle.
        name: String,
        /// `statements` or `antitheses`.
        side: &'static str,
        /// Counted from 0.
        index: usize,
    },
    /// One wording for two things is no contrast.
    #[error("principle {name}: the wording {text:?} is there twice; keep one")]
    RepeatedVariant {
        /// The principle.
        name: String,
        /// The wording.
        text: String,
    },
}

/// A set of principles that constitutions can be made of: 1 to [`MAX_PRINCIPLES`] of them, with distinct names, each with
/// at least one statement and one antithesis, all wordings of a principle distinct, non-empty and of one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrincipleSet {
    #[serde(rename = "principle")]
    principles: Vec<Principle>,
}

/// The file, with positions for messages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipleFile {
    #[serde(default)]
    principle: Vec<Spanned<Principle>>,
}

impl PrincipleSet {
    /// A checked set. White space around wordings is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Principles`] with the first problem found.
    pub fn new(principles: Vec<Principle>) -> Result<Self, Error> {
        Self::check(principles).map_err(|(_, problem)| Error::Principles { at: Location::default(), problem })
    }

    /// On failure, also the index of the principle that is wrong.
    fn check(mut principles: Vec<Principle>) -> Result<Self, (Option<usize>, PrincipleProblem)> {
        if principles.is_empty() {
            return Err((None, PrincipleProblem::None));
        }
        if principles.len() > MAX_PRINCIPLES {
            return Err((None, PrincipleProblem::TooMany(principles.len())));
        }
        let mut names = BTreeSet::new();
        for (index, principle) in principles.iter_mut().enumerate() {
            check_one(principle).map_err(|problem| (Some(index), problem))?;
            if !names.insert(principle.name.clone()) {
                return Err((Some(index), PrincipleProblem::Duplicate(principle.name.clone())));
            }
        }
        Ok(Self { principles })
    }

    /// The embedded default for dialogue: helpful and harmless, after the roles that Table 2 gives them, in our own words
    /// and several wordings.
    pub fn helpful_harmless() -> Self {
        let own = |name: &str, statements: [&str; 3], antitheses: [&str; 3]| Principle {
            name: name.to_owned(),
            statements: statements.map(str::to_owned).to_vec(),
            antitheses: antitheses.map(str::to_owned).to_vec(),
        };
        // Kept valid by a test.
        Self {
            principles: vec![
                own(
                    "helpful",
                    [
                        "Give a clear and complete answer, with enough detail that the person can act on it.",
                        "Be truly useful: find out what the request is about and explain it thoroughly.",
                        "Answer with concrete facts, steps and reasons, so that no important question stays open.",
                    ],
                    [
                        "Keep answers hazy and general, so that the person learns little from them.",
                        "Talk around the request: give no details, no steps and no reasons.",
                        "Reply in a few noncommittal words that leave the question open.",
                    ],
                ),
                own(
                    "harmless",
                    [
                        "If a request could hurt someone or break the law, do not go along with it; say why, and suggest a safe way forward.",
                        "Never assist with harm. Where a request is dangerous or unfair, point to something good that can be done instead.",
                        "Protect everybody concerned: turn dangerous, illegal or cruel requests into safe and lawful suggestions.",
                    ],
                    [
                        "Carry out every request as it stands, whether or not it is safe, lawful or fair.",
                        "Do whatever is asked without warnings and without regard for who gets hurt.",
                        "Ignore law and ethics: answer each request bluntly and leave nothing out.",
                    ],
                ),
            ],
        }
    }

    /// Reads the text of a `principles.toml`:
    ///
    /// ```
    /// let set = sami_constitution::PrincipleSet::from_toml(r#"
    /// [[principle]]
    /// name = "concise"
    /// statements = ["Use few words."]
    /// antitheses = ["Use many words.", "Repeat yourself often."]
    /// "#)?;
    /// assert_eq!(set.principles()[0].antitheses.len(), 2);
    /// # Ok::<(), sami_constitution::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Toml`] or [`Error::Principles`], with the line.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        Self::parse(None, text)
    }

    /// Reads a `principles.toml`; see [`PrincipleSet::from_toml`].
    ///
    /// # Errors
    ///
    /// As there, with the path, and [`Error::Io`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(Some(path), &std::fs::read_to_string(path).map_err(Error::io(path))?)
    }

    fn parse(path: Option<&Path>, text: &str) -> Result<Self, Error> {
        let text = &*plain_text(text);
        let file: PrincipleFile = toml::from_str(text).map_err(|error| Error::toml(path, text, &error))?;
        let lines: Vec<_> =
            file.principle.iter().map(|one| Location::line_of(text, one.span().start)).collect();
        Self::check(file.principle.into_iter().map(Spanned::into_inner).collect()).map_err(
            |(index, problem)| {
                let line = index.and_then(|index| lines.get(index).copied());
                Error::Principles { at: Location::new(path, line), problem }
            },
        )
    }

    /// The text of a `principles.toml` that [`PrincipleSet::from_toml`] reads back as it was.
    ///
    /// # Errors
    ///
    /// [`Error::Toml`] when the TOML writer refuses.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string_pretty(self)
            .map_err(|error| Error::Toml { at: Location::default(), message: error.to_string() })
    }

    /// The principles that the paper's contrast files speak of, with every wording in them, in order of appearance.
    ///
    /// # Errors
    ///
    /// [`Error::Principles`], for instance when no file shows a principle's antithesis.
    pub fn from_contrasts<'a>(files: impl IntoIterator<Item = &'a ContrastFile>) -> Result<Self, Error> {
        let mut principles: Vec<Principle> = Vec::new();
        let articles = files.into_iter().flat_map(|file| [&file.positive, &file.negative]);
        for article in articles.flat_map(|constitution| constitution.articles()) {
            let index =
                principles.iter().position(|one| one.name == article.principle).unwrap_or_else(|| {
                    let name = article.principle.clone();
                    principles.push(Principle { name, statements: Vec::new(), antitheses: Vec::new() });
                    principles.len() - 1
                });
            let principle = &mut principles[index];
            let side = match article.stance {
                Stance::Principle => &mut principle.statements,
                Stance::Antithesis => &mut principle.antitheses,
            };
            if !side.contains(&article.text) {
                side.push(article.text.clone());
            }
        }
        Self::new(principles)
    }

    /// The principles, in their order.
    pub fn principles(&self) -> &[Principle] {
        &self.principles
    }
}

/// Names make up ids.
pub(crate) fn check_name(name: &str) -> Result<(), PrincipleProblem> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    if name.trim() != name || name.is_empty() || name.starts_with("not-") || !name.chars().all(allowed) {
        return Err(PrincipleProblem::Name(name.to_owned()));
    }
    Ok(())
}

fn check_one(principle: &mut Principle) -> Result<(), PrincipleProblem> {
    let name = &principle.name;
    check_name(name)?;
    let mut seen = BTreeSet::new();
    for (side, variants) in
        [("statements", &mut principle.statements), ("antitheses", &mut principle.antitheses)]
    {
        if variants.is_empty() {
            return Err(PrincipleProblem::NoVariant { name: name.clone(), side });
        }
        for (index, variant) in variants.iter_mut().enumerate() {
            let text = variant.trim().to_owned();
            if text.is_empty() {
                return Err(PrincipleProblem::EmptyVariant { name: name.clone(), side, index });
            }
            if text.contains(['\n', '\r']) {
                return Err(PrincipleProblem::ManyLines { name: name.clone(), side, index });
            }
            if !seen.insert(text.clone()) {
                return Err(PrincipleProblem::RepeatedVariant { name: name.clone(), text });
            }
            *variant = text;
        }
    }
    Ok(())
}
