//! What a recipe says about constitutions.

use std::path::PathBuf;

use sami_constitution::{
    ChosenContrasts, ConstitutionSource, ConstitutionSpace, Error, PickedContrasts, PrincipleSet,
    QueryConstitutions, SourceProblem,
};
use serde::{Deserialize, Serialize};

use super::check::Problem;
use super::names::nearest;
use super::{Recipe, RecipeProblem};

/// `[constitutions]`: by default every combination of sides is drawn; `contrasts`, `chosen`, `files` and `per_query` each say
/// otherwise, and exclude each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConstitutionSection {
    /// TOML file of principles and antitheses. Default: the embedded helpful/harmless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principles: Option<PathBuf>,
    /// N_c: distinct constitutions per query. Default 2 (Table 1).
    pub n_constitutions: usize,
    /// Which constitutions meet in a contrast. Default `any`.
    pub contrasts: Contrasts,
    /// Contrasts by the sides that their constitutions take, `[["helpful+harmless", "not-helpful+harmless"], …]`; every query draws
    /// one of them, and wordings. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<Vec<String>>,
    /// Contrasts word for word: files in the paper's JSON, or directories of them. They bring their own principles. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// JSON lines with constitutions for each query by its id. They bring their own principles. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_query: Option<PathBuf>,
}

impl Default for ConstitutionSection {
    fn default() -> Self {
        Self {
            principles: None,
            n_constitutions: 2,
            contrasts: Contrasts::Any,
            chosen: Vec::new(),
            files: Vec::new(),
            per_query: None,
        }
    }
}

/// Which constitutions meet in a contrast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contrasts {
    /// Any distinct ones, all equally likely (Algorithm 1).
    #[default]
    Any,
    /// The constitution of all principles' own sides against others (the paper's TL;DR files).
    AgainstAllPrinciples,
}

impl From<Contrasts> for sami_constitution::Contrasts {
    fn from(contrasts: Contrasts) -> Self {
        match contrasts {
            Contrasts::Any => Self::Any,
            Contrasts::AgainstAllPrinciples => Self::AgainstAllPrinciples,
        }
    }
}

impl ConstitutionSection {
    /// Reads what the section names.
    ///
    /// # Errors
    ///
    /// Unreadable files; chosen contrasts that take no sides of the principles.
    pub fn source(&self) -> Result<ConstitutionSource, Error> {
        if let Some(file) = &self.per_query {
            return Ok(ConstitutionSource::PerQuery(QueryConstitutions::load(file)?));
        }
        if !self.files.is_empty() {
            return Ok(ConstitutionSource::Chosen(ChosenContrasts::load(&self.files)?));
        }
        let space = ConstitutionSpace::new(match &self.principles {
            Some(file) => PrincipleSet::load(file)?,
            None => PrincipleSet::helpful_harmless(),
        });
        if self.chosen.is_empty() {
            return Ok(ConstitutionSource::Drawn { space, contrasts: self.contrasts.into() });
        }
        Ok(ConstitutionSource::Picked(PickedContrasts::new(space, &self.chosen)?))
    }

    /// The files that the section names, those of its directories one by one.
    pub(crate) fn inputs(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut inputs: Vec<PathBuf> = self.principles.iter().chain(&self.per_query).cloned().collect();
        for path in &self.files {
            if !path.is_dir() {
                inputs.push(path.clone());
                continue;
            }
            let entries = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
            let mut files = entries.collect::<Result<Vec<_>, _>>()?;
            files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
            files.sort();
            inputs.extend(files);
        }
        Ok(inputs)
    }
}

impl Recipe {
    /// What can be said of the section without its files.
    pub(super) fn check_constitutions(&self) -> Result<(), RecipeProblem> {
        let section = &self.constitutions;
        let problem = |field, problem| Err(RecipeProblem { field, problem });
        let ways = [
            ("constitutions.per_query", section.per_query.is_some()),
            ("constitutions.files", !section.files.is_empty()),
            ("constitutions.chosen", !section.chosen.is_empty()),
            ("constitutions.contrasts", section.contrasts != Contrasts::Any),
        ];
        let mut given = ways.iter().filter(|(_, given)| *given).map(|(field, _)| *field);
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            let with = match first {
                "constitutions.per_query" => {
                    "constitutions.per_query, which leaves nothing to choose; keep one of them"
                }
                "constitutions.files" => {
                    "constitutions.files, which are all the contrasts there are; keep one of them"
                }
                _ => "constitutions.chosen, which says already what meets; keep one of them",
            };
            return problem(second, Problem::Contradicts { with });
        }
        if section.principles.is_some() && (section.per_query.is_some() || !section.files.is_empty()) {
            let with =
                "constitutions.files and per_query, which bring their own principles; keep one of them";
            return problem("constitutions.principles", Problem::Contradicts { with });
        }
        if section.files.iter().chain(&section.per_query).any(|file| file.as_os_str().is_empty()) {
            let field =
                if section.per_query.is_some() { "constitutions.per_query" } else { "constitutions.files" };
            return problem(field, Problem::Missing { hint: "one of its names is empty; name a file" });
        }
        let shortest = section.chosen.iter().map(Vec::len).min();
        if let Some(most) = shortest.filter(|most| *most >= 2 && *most < section.n_constitutions) {
            let (got, of) = (section.n_constitutions, "constitutions in a contrast of constitutions.chosen");
            return problem("constitutions.n_constitutions", Problem::TooLarge { got, most, of });
        }
        Ok(())
    }

    /// Whether the chosen contrasts take sides of the principles, as far as those can be read; a file that cannot is told when
    /// the recipe is used.
    pub(super) fn check_chosen(&self) -> Result<(), RecipeProblem> {
        if self.constitutions.chosen.is_empty() {
            return Ok(());
        }
        let Err(Error::Source { problem, .. }) = self.constitutions.source() else { return Ok(()) };
        let mut message = problem.to_string();
        if let SourceProblem::UnknownSide { name, known, .. } = &problem {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            if let Some(meant) = nearest(name, &known) {
                message.push_str(&format!("; did you mean `{meant}`?"));
            }
        }
        Err(RecipeProblem { field: "constitutions.chosen", problem: Problem::Chosen(message) })
    }
}
