//! Where a query's constitutions come from.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::constitution::Constitution;
use crate::contrast_file::ContrastFile;
use crate::error::{Error, Location};
use crate::picked::PickedContrasts;
use crate::plain_text::plain_text;
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
    /// One of some contrasts between combinations of sides, in wordings drawn anew for each query.
    Picked(PickedContrasts),
    /// One of some chosen contrasts, word for word: the paper's files, for instance.
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
    /// A name that no principle has.
    #[error("{of}: there is no principle {name:?}; the principles are {}", known.join(", "))]
    UnknownSide {
        /// Which contrast.
        of: String,
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A constitution that leaves a principle out.
    #[error("{of}: {id:?} takes no side of {name}; add {name} or not-{name} to it")]
    NoSide {
        /// Which contrast.
        of: String,
        /// The constitution.
        id: String,
        /// The principle.
        name: String,
    },
    /// A constitution that says twice what to do about a principle.
    #[error("{of}: {id:?} names {name} twice; keep one side of it")]
    TwoSides {
        /// Which contrast.
        of: String,
        /// The constitution.
        id: String,
        /// The principle.
        name: String,
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

/// What a constitution says, whatever the order of its articles.
fn said(constitution: &Constitution) -> Vec<&str> {
    let mut texts: Vec<_> = constitution.articles().iter().map(|article| article.text.as_str()).collect();
    texts.sort_unstable();
    texts
}

/// At least two constitutions, no two of them with the same articles.
fn check(of: &str, constitutions: &[Constitution]) -> Result<(), SourceProblem> {
    let (of, found) = (of.to_owned(), constitutions.len());
    if found < 2 {
        return Err(SourceProblem::TooShort { of, found });
    }
    let texts: Vec<_> = constitutions.iter().map(said).collect();
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

    /// Reads files in the paper's format, and all such files of directories, in this order.
    ///
    /// # Errors
    ///
    /// As [`ContrastFile::load`] and [`ContrastFile::load_dir`]; [`Error::Source`] with the file for one whose two constitutions say
    /// the same.
    pub fn load(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut contrasts = Vec::new();
        for path in paths {
            let files =
                if path.is_dir() { ContrastFile::load_dir(path)? } else { vec![ContrastFile::load(path)?] };
            for (index, ContrastFile { positive, negative }) in files.into_iter().enumerate() {
                let pair = vec![positive, negative];
                check(&format!("contrast {index}"), &pair)
                    .map_err(|problem| problem.at(Location::new(Some(path), None)))?;
                contrasts.push(pair);
            }
        }
        Self::new(contrasts)
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
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let lines = plain_text(&text);
        for (index, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
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
    /// `n` distinct constitutions for a query. Where there are more, a picked or chosen contrast keeps its first one (the
    /// positive one of the paper's files) and draws the others; a query's own are drawn uniformly.
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
        match self {
            Self::Drawn { space, contrasts } => space.sample(n, *contrasts, rng),
            Self::Picked(picked) => {
                self.check(n)?;
                Ok(picked.draw(n, rng))
            }
            Self::Chosen(ChosenContrasts(contrasts)) => {
                let index = rng.random_range(0..contrasts.len());
                let mut drawn = contrasts[index].clone();
                enough(|| format!("contrast {index}"), n, drawn.len())?;
                drawn[1..].shuffle(rng);
                drawn.truncate(n);
                Ok(drawn)
            }
            Self::PerQuery(all) => {
                let own = all.get(query);
                let own =
                    own.ok_or_else(|| SourceProblem::NoQuery(query.to_owned()).at(Location::default()))?;
                enough(|| format!("query {query}"), n, own.len())?;
                let mut drawn = own.to_vec();
                drawn.shuffle(rng);
                drawn.truncate(n);
                Ok(drawn)
            }
        }
    }

    /// Whether any query that has constitutions has `n`, so that a job can be refused before it begins.
    ///
    /// # Errors
    ///
    /// As [`ConstitutionSource::for_query`]; not that some query has no constitutions of its own.
    pub fn check(&self, n: usize) -> Result<(), Error> {
        if n < 2 {
            return Err(Error::NoContrast { wanted: n });
        }
        match self {
            Self::Drawn { space, .. } => space.check(n),
            Self::Picked(picked) => {
                let (of, found) = picked.fewest();
                enough(|| of, n, found)
            }
            Self::Chosen(ChosenContrasts(contrasts)) => {
                let mut lengths = contrasts.iter().map(Vec::len).enumerate();
                lengths.try_for_each(|(index, len)| enough(|| format!("contrast {index}"), n, len))
            }
            Self::PerQuery(QueryConstitutions(all)) => {
                let mut lengths = all.iter().map(|(query, own)| (query, own.len()));
                lengths.try_for_each(|(query, len)| enough(|| format!("query {query}"), n, len))
            }
        }
    }

    /// Whether this query has constitutions, which is a question only where queries have their own.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] for one that has none.
    pub fn check_query(&self, query: &str) -> Result<(), Error> {
        match self {
            Self::PerQuery(all) if all.get(query).is_none() => {
                Err(SourceProblem::NoQuery(query.to_owned()).at(Location::default()))
            }
            _ => Ok(()),
        }
    }

    /// The source that lets all of a query's constitutions meet at once, and how many they are: what an evaluation over the full
    /// set asks with. Of constitutions of queries, the fewest that a query has.
    pub fn whole(&self) -> (Self, u64) {
        match self {
            Self::Drawn { space, .. } => {
                (Self::Drawn { space: space.clone(), contrasts: Contrasts::Any }, space.len())
            }
            Self::Picked(picked) => {
                let whole = picked.whole();
                let (_, count) = whole.fewest();
                (Self::Picked(whole), count as u64)
            }
            Self::Chosen(_) => {
                let all: Vec<_> = self.all().collect();
                let count = all.len() as u64;
                (Self::Chosen(ChosenContrasts(vec![all])), count)
            }
            Self::PerQuery(QueryConstitutions(all)) => {
                (self.clone(), all.values().map(Vec::len).min().unwrap_or(0) as u64)
            }
        }
    }

    /// Every constitution that queries may meet, each once, whatever the order of its articles; combinations of a space in their
    /// first wording.
    pub fn all(&self) -> impl Iterator<Item = Constitution> + '_ {
        let listed: Box<dyn Iterator<Item = Constitution> + '_> = match self {
            Self::Drawn { space, .. } => Box::new(space.all()),
            Self::Picked(picked) => Box::new(picked.all()),
            Self::Chosen(ChosenContrasts(contrasts)) => Box::new(contrasts.iter().flatten().cloned()),
            Self::PerQuery(QueryConstitutions(all)) => Box::new(all.values().flatten().cloned()),
        };
        let mut seen = HashSet::new();
        listed.filter(move |one| seen.insert(said(one).into_iter().map(str::to_owned).collect::<Vec<_>>()))
    }
}

fn enough(of: impl FnOnce() -> String, wanted: usize, found: usize) -> Result<(), Error> {
    if found >= wanted {
        return Ok(());
    }
    Err(SourceProblem::TooFew { of: of(), wanted, found }.at(Location::default()))
}
