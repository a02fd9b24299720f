//! The paper's own files of constitution pairs.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::constitution::{Article, Constitution, ConstitutionProblem, Stance};
use crate::error::{Error, Location};
use crate::plain_text::plain_text;
use crate::principle::{PrincipleProblem, PrincipleSet};
use crate::source::SourceProblem;
use crate::space::ConstitutionSpace;

/// Principles in files of contrasts, at most: 10 make 1,023 files.
const MAX_FILES: usize = 10;

/// A pair of constitutions as the paper's authors store it: JSON with `positive` and `negative`, each a numbered text, and
/// `identifiers`, which name each point's principle and side (`pos concise`, `neg concise`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContrastFile {
    /// The constitution under `positive`.
    pub positive: Constitution,
    /// The constitution under `negative`.
    pub negative: Constitution,
}

#[derive(Serialize, Deserialize)]
struct Raw {
    positive: String,
    negative: String,
    identifiers: RawIdentifiers,
}

#[derive(Serialize, Deserialize)]
struct RawIdentifiers {
    positive: Vec<String>,
    negative: Vec<String>,
}

impl ContrastFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Json`] with the line, [`Error::Constitution`] for numbering or identifiers that do not fit.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(Some(path), &std::fs::read_to_string(path).map_err(Error::io(path))?)
    }

    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// As [`ContrastFile::load`], without a path.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        Self::parse(None, text)
    }

    fn parse(path: Option<&Path>, text: &str) -> Result<Self, Error> {
        let raw: Raw = serde_json::from_str(&plain_text(text)).map_err(|source| {
            let at = Location::new(path, Some(source.line()));
            Error::Json { at, source }
        })?;
        let read = |key, text: &str, identifiers: &[String]| {
            constitution(key, text, identifiers)
                .map_err(|problem| Error::Constitution { at: Location::new(path, None), problem })
        };
        Ok(Self {
            positive: read("positive", &raw.positive, &raw.identifiers.positive)?,
            negative: read("negative", &raw.negative, &raw.identifiers.negative)?,
        })
    }

    /// Reads every `*.json` in a directory, in the order of their numbers (`2.json` before `10.json`), others by name after them.
    ///
    /// # Errors
    ///
    /// As [`ContrastFile::load`]; [`Error::Source`] for a directory without such a file.
    pub fn load_dir(dir: &Path) -> Result<Vec<Self>, Error> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
            let path = entry.map_err(Error::io(dir))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
                files.push((number.is_none(), number, path));
            }
        }
        if files.is_empty() {
            let (at, problem) = (Location::new(Some(dir), None), SourceProblem::NoContrast);
            return Err(Error::Source { at, problem });
        }
        files.sort_unstable();
        files.iter().map(|(_, _, path)| Self::load(path)).collect()
    }

    /// The contrasts that the paper's directories hold: the constitution of every principle's own side against each other
    /// combination, in the first wordings and the order of the set. 2^P − 1 of them for P principles.
    ///
    /// # Errors
    ///
    /// [`Error::Principles`] for more than 10 principles.
    pub fn against_all_principles(set: &PrincipleSet) -> Result<Vec<Self>, Error> {
        let count = set.principles().len();
        if count > MAX_FILES {
            let problem = PrincipleProblem::TooManyForFiles(count);
            return Err(Error::Principles { at: Location::default(), problem });
        }
        let mut all = ConstitutionSpace::new(set.clone()).all().collect::<Vec<_>>().into_iter();
        let Some(positive) = all.next() else { return Ok(Vec::new()) };
        Ok(all.map(|negative| Self { positive: positive.clone(), negative }).collect())
    }

    /// The file's text, which [`ContrastFile::from_json`] reads back.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] when the JSON writer refuses.
    pub fn to_json(&self) -> Result<String, Error> {
        let raw = Raw {
            positive: self.positive.render(),
            negative: self.negative.render(),
            identifiers: RawIdentifiers {
                positive: identifiers(&self.positive),
                negative: identifiers(&self.negative),
            },
        };
        serde_json::to_string_pretty(&raw).map_err(|source| Error::Json { at: Location::default(), source })
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        std::fs::write(path, self.to_json()?).map_err(Error::io(path))
    }
}

fn identifiers(constitution: &Constitution) -> Vec<String> {
    let prefix = |stance| match stance {
        Stance::Principle => "pos",
        Stance::Antithesis => "neg",
    };
    constitution.articles().iter().map(|one| format!("{} {}", prefix(one.stance), one.principle)).collect()
}

fn constitution(
    key: &'static str,
    text: &str,
    identifiers: &[String],
) -> Result<Constitution, ConstitutionProblem> {
    let mut points = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let number = points.len() + 1;
        let point = line.strip_prefix(&format!("{number}.")).filter(|rest| rest.starts_with(' '));
        let numbering = || ConstitutionProblem::Numbering { key, number, line: line.to_owned() };
        points.push(point.ok_or_else(numbering)?.trim().to_owned());
    }
    if points.len() != identifiers.len() {
        let (points, identifiers) = (points.len(), identifiers.len());
        return Err(ConstitutionProblem::Identifiers { key, points, identifiers });
    }
    let article = |(text, identifier): (String, &String)| {
        let (stance, name) = match identifier.split_once(' ') {
            Some(("pos", name)) => (Stance::Principle, name.trim()),
            Some(("neg", name)) => (Stance::Antithesis, name.trim()),
            _ => return Err(ConstitutionProblem::Identifier { key, found: identifier.clone() }),
        };
        Ok(Article { principle: name.to_owned(), stance, text })
    };
    Constitution::check(points.into_iter().zip(identifiers).map(article).collect::<Result<_, _>>()?)
}
