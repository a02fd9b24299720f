//! Where a query's constitutions come from.

use std::collections::BTreeMap;
use std::path::Path;

use rand::Rng;
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::constitution::Constitution;
use crate::contrast_file::ContrastFile;
use crate::error::{Error, Location};
use crate::space::{ConstitutionSpace, Contrasts};

/// The constitutions that queries meet.
#[derive(Clone, Debug)]
pub enum ConstitutionSource {
    /// Drawn anew for each query from every combination of sides and wordings (Algorithm 1).
    Drawn {
        /// What to draw from.
        space: ConstitutionSpace,
        /// Which of them meet.
        contrasts: Contrasts,
    },
    /// One of some chosen contrasts, drawn uniformly for each query: the paper's files, for instance.
    Chosen(ChosenContrasts),
    /// Each query has its own, as constitutional AI and other later methods want.
    PerQuery(QueryConstitutions),
}

/// What is wrong with constitutions that were chosen or written for queries.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SourceProblem {
    /// Nothing to choose from.
    #[error("there is no contrast; give at least one")]
    NoContrast,
    /// One constitution is no contrast.
    #[error("{of}: {found} constitutions; a contrast needs at least 2")]
    TooShort {
        /// Which contrast, or whose.
        of: String,
        /// How many there are.
        found: usize,
    },
    /// Two that ask for the same in the same words.
    #[error("{of}: two of its constitutions say the same; a contrast needs distinct ones")]
    Same {
        /// Which contrast, or whose.
        of: String,
    },
    /// Fewer constitutions than asked for.
    #[error(
        "{of}: {wanted} constitutions per query are asked for, and there are {found}; lower n_constitutions"
    )]
    TooFew {
        /// Which contrast, or whose.
        of: String,
        /// N_c.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
    /// A query without constitutions.
    #[error("query {0} has no constitutions of its own; add a line for it")]
    NoQuery(String),
    /// A query with two lines.
    #[error("query {0} has constitutions already; keep one line for it")]
    RepeatedQuery(String),
}

impl SourceProblem {
    fn at(self, at: Location) -> Error {
        Error::Source { at, problem: self }
    }
}

/// At least two constitutions, no two of them with the same articles.
fn check(of: &str, constitutions: &[Constitution]) -> Result<(), SourceProblem> {
    let (of, found) = (of.to_owned(), constitutions.len());
    if found < 2 {
        return Err(SourceProblem::TooShort { of, found });
    }
    let texts: Vec<Vec<&str>> = constitutions
        .iter()
        .map(|one| {
            let mut texts: Vec<_> = one.articles().iter().map(|article| article.text.as_str()).collect();
            texts.sort_unstable();
            texts
        })
        .collect();
    let repeated = texts.iter().enumerate().any(|(index, text)| texts[..index].contains(text));
    if repeated { Err(SourceProblem::Same { of }) } else { Ok(()) }
}

/// Some contrasts: at least one, each of at least two distinct constitutions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenContrasts(Vec<Vec<Constitution>>);

impl ChosenContrasts {
    /// Checks contrasts that were put together by hand.
    ///
    /// # Errors
    ///
    /// [`Error::Source`]: none, one with fewer than two constitutions, or with two that say the same.
    pub fn new(contrasts: Vec<Vec<Constitution>>) -> Result<Self, Error> {
        if contrasts.is_empty() {
            return Err(SourceProblem::NoContrast.at(Location::default()));
        }
        for (index, one) in contrasts.iter().enumerate() {
            check(&format!("contrast {index}"), one).map_err(|problem| problem.at(Location::default()))?;
        }
        Ok(Self(contrasts))
    }

    /// The contrasts of the paper's files, positive before negative.
    ///
    /// # Errors
    ///
    /// As [`ChosenContrasts::new`].
    pub fn from_files(files: impl IntoIterator<Item = ContrastFile>) -> Result<Self, Error> {
        Self::new(files.into_iter().map(|file| vec![file.positive, file.negative]).collect())
    }

    /// The contrasts.
    pub fn contrasts(&self) -> &[Vec<Constitution>] {
        &self.0
    }
}

/// Constitutions by the id of the query that they are for, at least two distinct ones each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryConstitutions(BTreeMap<String, Vec<Constitution>>);

/// A line of a file of them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryLine {
    query: String,
    constitutions: Vec<Constitution>,
}

impl QueryConstitutions {
    /// Adds a query's.
    ///
    /// # Errors
    ///
    /// [`Error::Source`]: fewer than two, two that say the same, a query that has some.
    pub fn insert(
        &mut self,
        query: impl Into<String>,
        constitutions: Vec<Constitution>,
    ) -> Result<(), Error> {
        self.add(query.into(), constitutions).map_err(|problem| problem.at(Location::default()))
    }

    fn add(&mut self, query: String, constitutions: Vec<Constitution>) -> Result<(), SourceProblem> {
        check(&format!("query {query}"), &constitutions)?;
        if self.0.contains_key(&query) {
            return Err(SourceProblem::RepeatedQuery(query));
        }
        self.0.insert(query, constitutions);
        Ok(())
    }

    /// Reads JSON lines, one query each:
    /// `{"query": ID, "constitutions": [[{"principle": NAME, "stance": "principle" | "antithesis", "text": …}, …], …]}`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Json`] and [`Error::Source`] with the line.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let mut all = Self::default();
        for (index, line) in std::fs::read_to_string(path).map_err(Error::io(path))?.lines().enumerate() {
            let at = || Location::new(Some(path), Some(index + 1));
            let line: QueryLine =
                serde_json::from_str(line).map_err(|source| Error::Json { at: at(), source })?;
            all.add(line.query, line.constitutions).map_err(|problem| problem.at(at()))?;
        }
        if all.0.is_empty() {
            return Err(SourceProblem::NoContrast.at(Location::new(Some(path), None)));
        }
        Ok(all)
    }

    /// Writes what [`QueryConstitutions::load`] reads.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Json`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let mut text = String::new();
        for (query, constitutions) in &self.0 {
            let line = QueryLine { query: query.clone(), constitutions: constitutions.clone() };
            let line = serde_json::to_string(&line)
                .map_err(|source| Error::Json { at: Location::new(Some(path), None), source })?;
            text.push_str(&line);
            text.push('\n');
        }
        std::fs::write(path, text).map_err(Error::io(path))
    }

    /// A query's constitutions.
    pub fn get(&self, query: &str) -> Option<&[Constitution]> {
        self.0.get(query).map(Vec::as_slice)
    }

    /// How many queries have some.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ConstitutionSource {
    /// `n` distinct constitutions for a query. Where there are more, a chosen contrast keeps its first one (the positive one
    /// of the paper's files) and draws the others; a query's own are drawn uniformly.
    ///
    /// # Errors
    ///
    /// [`Error::NoContrast`] for `n` below 2, [`Error::TooFew`] or [`Error::Source`] where there are not as many, or none for
    /// this query.
    pub fn for_query<R: Rng + ?Sized>(
        &self,
        query: &str,
        n: usize,
        rng: &mut R,
    ) -> Result<Vec<Constitution>, Error> {
        if n < 2 {
            return Err(Error::NoContrast { wanted: n });
        }
        let few = |of: String, found| SourceProblem::TooFew { of, wanted: n, found }.at(Location::default());
        match self {
            Self::Drawn { space, contrasts } => space.sample(n, *contrasts, rng),
            Self::Chosen(ChosenContrasts(contrasts)) => {
                let index = rng.random_range(0..contrasts.len());
                let mut drawn = contrasts[index].clone();
                if drawn.len() < n {
                    return Err(few(format!("contrast {index}"), drawn.len()));
                }
                drawn[1..].shuffle(rng);
                drawn.truncate(n);
                Ok(drawn)
            }
            Self::PerQuery(all) => {
                let own = all.get(query);
                let own =
                    own.ok_or_else(|| SourceProblem::NoQuery(query.to_owned()).at(Location::default()))?;
                if own.len() < n {
                    return Err(few(format!("query {query}"), own.len()));
                }
                let mut drawn = own.to_vec();
                drawn.shuffle(rng);
                drawn.truncate(n);
                Ok(drawn)
            }
        }
    }

    /// Every constitution that queries may meet, each once; combinations of a space in their first wording.
    pub fn all(&self) -> Vec<Constitution> {
        let listed: Box<dyn Iterator<Item = Constitution> + '_> = match self {
            Self::Drawn { space, .. } => Box::new(space.all()),
            Self::Chosen(ChosenContrasts(contrasts)) => Box::new(contrasts.iter().flatten().cloned()),
            Self::PerQuery(QueryConstitutions(all)) => Box::new(all.values().flatten().cloned()),
        };
        let mut seen = std::collections::HashSet::new();
        listed.filter(|one| seen.insert(one.clone())).collect()
    }
}
