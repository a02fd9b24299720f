//! Responses side by side.

use sami_data::{PairRecord, read_pairs};
use serde::Serialize;

use super::super::ReportError;
use super::super::chart::shortened;
use super::super::collect::{Collected, Model};

/// Queries whose responses are shown side by side.
const SAMPLES: usize = 6;

#[derive(Default, Serialize)]
pub(super) struct Samples {
    /// Names of the models whose responses stand side by side.
    models: Vec<String>,
    /// Sets of training, where there is no evaluation.
    of_training: bool,
    pub(super) queries: Vec<SampleQuery>,
}

#[derive(Serialize)]
pub(super) struct SampleQuery {
    id: String,
    query: String,
    /// Its beginning, on one line.
    heading: String,
    /// Whose set of responses the filters left out, and why.
    rejected: Vec<String>,
    rows: Vec<SampleRow>,
}

#[derive(Serialize)]
struct SampleRow {
    asked: String,
    constitution: String,
    /// One for each model; `None` where it has none.
    responses: Vec<Option<String>>,
}

/// Responses of the base and of the last model to the same queries under the same constitutions; without an evaluation, the first
/// sets of the last iteration.
pub(super) fn samples(run: &Collected) -> Result<Samples, ReportError> {
    let mut trained = run.models.iter().filter(|model| model.iteration.is_some());
    let (first, last) = (trained.next(), trained.next_back());
    let shown: Vec<&Model> = first.into_iter().chain(last).collect();
    if shown.is_empty() {
        let sets =
            run.iterations.iter().rev().filter_map(|iteration| iteration.pairs.as_ref().zip(Some(iteration)));
        let Some((pairs, iteration)) = sets.into_iter().find(|(pairs, _)| !pairs.first.is_empty()) else {
            return Ok(Samples::default());
        };
        let records: Vec<&PairRecord> = pairs.first.iter().take(SAMPLES).collect();
        let models = vec![format!("sampled in iteration {}", iteration.number)];
        let queries = records.into_iter().map(|record| sample(record, &models, &[Some(record)])).collect();
        return Ok(Samples { models, of_training: true, queries });
    }
    let mut pairs = Vec::with_capacity(shown.len());
    for model in &shown {
        pairs.push(read_pairs(&model.pairs)?);
    }
    let Some(records) = pairs.first() else { return Ok(Samples::default()) };
    // Evenly spaced over the file, so that every file of queries is seen.
    let stride = (records.len() / SAMPLES).max(1);
    let named = shown.iter().map(|model| match model.iteration {
        Some(0) => "base".to_owned(),
        _ => model.name.clone(),
    });
    let models: Vec<String> = named.collect();
    let queries = records.iter().step_by(stride).take(SAMPLES).map(|record| {
        let same: Vec<Option<&PairRecord>> =
            pairs.iter().map(|pairs| pairs.iter().find(|other| other.id == record.id)).collect();
        sample(record, &models, &same)
    });
    let queries = queries.collect();
    Ok(Samples { models, of_training: false, queries })
}

fn sample(record: &PairRecord, names: &[String], models: &[Option<&PairRecord>]) -> SampleQuery {
    let rejected = names.iter().zip(models).filter_map(|(name, record)| {
        let reasons = record.filter(|record| !record.is_kept())?.rejected.join(", ");
        Some(format!("{name} ({reasons})"))
    });
    let rejected = rejected.collect();
    let rows = record.constitutions.iter().map(|constitution| {
        let response = |record: &Option<&PairRecord>| {
            let record = (*record)?;
            let index = record.constitutions.iter().position(|other| other.id == constitution.id)?;
            let response = record.responses.iter().find(|response| response.constitution == index)?;
            Some(response.text.trim().to_owned())
        };
        SampleRow {
            asked: constitution.id.clone(),
            constitution: constitution.text.clone(),
            responses: models.iter().map(response).collect(),
        }
    });
    let heading = shortened(&record.query.replace('\n', " "), 160);
    SampleQuery {
        id: record.id.clone(),
        heading,
        query: record.query.clone(),
        rejected,
        rows: rows.collect(),
    }
}
