//! One constitution: a numbered list that takes one side of each principle.

use std::borrow::Cow;
use std::fmt;

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::{Error, Location};

/// Which side of a principle an article takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stance {
    /// What is wanted.
    Principle,
    /// Its opposite.
    Antithesis,
}

/// One numbered point of a constitution.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Article {
    /// Name of the principle.
    pub principle: String,
    /// The side it takes.
    pub stance: Stance,
    /// One line of text.
    pub text: String,
}

impl Article {
    /// `helpful`, or `not-helpful` for the antithesis.
    pub fn label(&self) -> String {
        match self.stance {
            Stance::Principle => self.principle.clone(),
            Stance::Antithesis => format!("not-{}", self.principle),
        }
    }
}

/// What is wrong with a list of articles.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConstitutionProblem {
    /// Nothing to follow.
    #[error("a constitution needs at least one article")]
    Empty,
    /// Two articles about one principle.
    #[error("principle {0} appears twice in one constitution; keep one side of it")]
    Repeated(String),
    /// An article that says nothing.
    #[error("article {0} of the constitution has no text")]
    NoText(usize),
    /// An article over several lines would break the numbering.
    #[error("article {0} of the constitution has more than one line; join its lines")]
    ManyLines(usize),
    /// A line of a rendered constitution does not carry its number.
    #[error("{key}: point {number} should begin with \"{number}. \"; it is {line:?}")]
    Numbering {
        /// The key that holds the text.
        key: &'static str,
        /// The number that was expected.
        number: usize,
        /// The line that was found.
        line: String,
    },
    /// As many identifiers as points are needed.
    #[error("{key}: {points} numbered points, but {identifiers} identifiers; give one identifier per point")]
    Identifiers {
        /// The key that holds the text.
        key: &'static str,
        /// Points in the text.
        points: usize,
        /// Identifiers beside it.
        identifiers: usize,
    },
    /// An identifier that is not understood.
    #[error("identifiers.{key}: {found:?} should be \"pos NAME\" or \"neg NAME\"")]
    Identifier {
        /// The key that holds it.
        key: &'static str,
        /// What was found.
        found: String,
    },
}

/// A constitution: at least one article, at most one per principle, each one line of text.
///
/// The order of articles is part of the text that a model reads and not of what the constitution says, so
/// [`Constitution::id`] does not depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Article>", into = "Vec<Article>")]
pub struct Constitution {
    articles: Vec<Article>,
}

impl Constitution {
    /// A constitution from its articles, in this order.
    ///
    /// # Errors
    ///
    /// [`Error::Constitution`] for no article, two about one principle, or text that is empty or has several lines.
    pub fn new(articles: Vec<Article>) -> Result<Self, Error> {
        Self::check(articles).map_err(|problem| Error::Constitution { at: Location::default(), problem })
    }

    pub(crate) fn check(articles: Vec<Article>) -> Result<Self, ConstitutionProblem> {
        if articles.is_empty() {
            return Err(ConstitutionProblem::Empty);
        }
        for (index, article) in articles.iter().enumerate() {
            if articles.iter().take(index).any(|before| before.principle == article.principle) {
                return Err(ConstitutionProblem::Repeated(article.principle.clone()));
            }
            if article.text.trim().is_empty() {
                return Err(ConstitutionProblem::NoText(index + 1));
            }
            if article.text.contains(['\n', '\r']) {
                return Err(ConstitutionProblem::ManyLines(index + 1));
            }
        }
        Ok(Self { articles })
    }

    /// For articles that are known to be distinct and checked.
    pub(crate) fn from_checked(articles: Vec<Article>) -> Self {
        Self { articles }
    }

    /// The articles, in the order in which they are numbered.
    pub fn articles(&self) -> &[Article] {
        &self.articles
    }

    /// The sides taken, for example `helpful+not-harmless`: [labels](Article::label) in alphabetical order, so neither
    /// the order of the articles nor their wording changes it.
    pub fn id(&self) -> String {
        let mut labels: Vec<_> = self.articles.iter().map(Article::label).collect();
        labels.sort_unstable();
        labels.join("+")
    }

    /// The text that stands in a prompt: `1. …\n2. …`, without a final newline.
    pub fn render(&self) -> String {
        let lines: Vec<_> = self
            .articles
            .iter()
            .enumerate()
            .map(|(i, article)| format!("{}. {}", i + 1, article.text))
            .collect();
        lines.join("\n")
    }

    /// The same articles in a uniformly random order, numbered anew: the paper trains on shuffled constitutions.
    pub fn shuffled<R: Rng + ?Sized>(&self, rng: &mut R) -> Self {
        let mut articles = self.articles.clone();
        articles.shuffle(rng);
        Self { articles }
    }
}

impl fmt::Display for Constitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

impl TryFrom<Vec<Article>> for Constitution {
    type Error = ConstitutionProblem;
    fn try_from(articles: Vec<Article>) -> Result<Self, ConstitutionProblem> {
        Self::check(articles)
    }
}

impl From<Constitution> for Vec<Article> {
    fn from(constitution: Constitution) -> Self {
        constitution.articles
    }
}

/// Lets prompts be made from a constitution or from its text.
impl<'a> From<&'a Constitution> for Cow<'a, str> {
    fn from(constitution: &'a Constitution) -> Self {
        Cow::Owned(constitution.render())
    }
}
