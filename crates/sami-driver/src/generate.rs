//! Stage 2: responses of a policy to queries under constitutions.

use std::path::{Path, PathBuf};

use sami_constitution::{Constitution, ConstitutionSource, Task};
use sami_data::{
    Candidate, Finish, JsonlAppender, PairConstitution, PairRecord, Query, Rejection, RejectionCounts,
    ResponseFilter, Sampled,
};
use sami_policy::{
    FinishReason, Refusal, RefusalCause, Sample, SampleRequest, Sampler, SamplingParams, StreamKey,
};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, DriverError};
use crate::events::{Event, Observer, Stage};
use crate::files::whole_lines;
use crate::screening::{Refused, most_frequent};
use crate::sources::QuerySource;
use crate::streams::{Purpose, stream};
use crate::train::contrast_set;

/// How many contrast sets a generation is to end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// So many that the filters kept; further queries replace rejected ones.
    Kept(usize),
    /// One for each query, kept or not.
    All,
}

/// What to sample, and where to write it.
#[derive(Clone, Debug)]
pub struct GenerateJob<'a> {
    /// All draws come from it, with the iteration and each query's position in `queries`.
    pub seed: u64,
    /// Part of every stream's key.
    pub iteration: usize,
    /// All queries of the data; a query's position here is its number in the streams, whatever `order` says.
    pub queries: &'a dyn QuerySource,
    /// Positions in `queries`, in the order in which they are asked.
    pub order: &'a [usize],
    /// When to end.
    pub wanted: Wanted,
    /// Where queries' constitutions come from.
    pub constitutions: &'a ConstitutionSource,
    /// N_c: distinct constitutions per query.
    pub n_constitutions: usize,
    /// The prompts.
    pub task: &'a Task,
    /// How to sample.
    pub params: &'a SamplingParams,
    /// Whether a sampled end-of-sequence token counts as part of its response.
    pub score_eos: bool,
    /// Queries that are sampled and written together.
    pub chunk: usize,
    /// A query that is refused ends the generation, instead of being rejected.
    pub strict: bool,
    /// The pairs file; what an earlier process wrote to it is kept.
    pub out: PathBuf,
}

/// What a generation came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerateReport {
    /// Queries that were asked.
    pub sampled: usize,
    /// Sets that were kept.
    pub kept: usize,
    /// Sets that are rejected because the model or a server refuses them.
    #[serde(default)]
    pub refused: usize,
    /// Rejected sets by reason; a set with two reasons counts under both.
    pub rejected: RejectionCounts,
    /// Responses that the model ended with its end-of-sequence token.
    pub eos: usize,
    /// Responses that a stop string ended.
    pub stopped: usize,
    /// Responses that were cut at the limit of tokens.
    pub truncated: usize,
}

impl GenerateReport {
    fn add(&mut self, record: &PairRecord) {
        self.sampled += 1;
        self.kept += usize::from(record.is_kept());
        self.refused += usize::from(record.refusal.is_some());
        self.rejected.add(&record.rejected);
        for response in &record.responses {
            match response.finish {
                Some(Finish::Eos) => self.eos += 1,
                Some(Finish::Stop) => self.stopped += 1,
                Some(Finish::Length) => self.truncated += 1,
                None => {}
            }
        }
    }
}

/// Samples responses, appends a line per query to `job.out`, and goes on where an earlier process stopped.
///
/// Chunks are fixed: a chunk holds the next `job.chunk` queries, or as many as are still wanted, which depends on the
/// lines before it alone. A chunk that was written in part is cut off and sampled anew, so every chunk is sampled whole
/// and an interrupted generation ends with the same bytes as an uninterrupted one.
///
/// # Errors
///
/// What the sampler or the templates refuse; lines in `job.out` that belong to other queries; fewer queries than are
/// needed to replace rejected sets, found before anything is sampled where the sampler can tell;
/// [`DriverError::Refused`] if the job is strict; [`DriverError::AllRefused`]; [`DriverError::Cancelled`].
pub fn generate<S: Sampler>(
    sampler: &mut S,
    job: &GenerateJob<'_>,
    observer: &mut dyn Observer,
) -> Result<GenerateReport, DriverError> {
    // Before a file is made.
    job.constitutions.check(job.n_constitutions)?;
    let filter = ResponseFilter::new(job.task.rules().clone())?;
    let stage = Stage::Generate;
    let total = match job.wanted {
        Wanted::Kept(wanted) => wanted,
        Wanted::All => job.order.len(),
    };
    let mut asked = Asked::new(job);
    let mut report = committed(job, &mut asked)?;
    if report.sampled > 0 {
        tracing::info!(path = %job.out.display(), sampled = report.sampled, kept = report.kept, "sampling goes on");
    }
    if job.strict && report.refused > 0 {
        refuse_first(job)?;
    }
    check_usable(sampler, job, &mut asked, &report)?;
    let mut lines = JsonlAppender::open_at(&job.out, report.sampled)?;
    let progress = |report: &GenerateReport| match job.wanted {
        Wanted::Kept(_) => report.kept,
        Wanted::All => report.sampled,
    };
    observer.event(Event::StageBegun { stage, done: progress(&report), total });
    loop {
        let chunk = match next_chunk(job, &report) {
            Ok(Some(chunk)) => asked.chunk(report.sampled, chunk)?,
            Ok(None) => break,
            Err(error) => return all_refused(job, &report).and(Err(error)),
        };
        let records = sample_chunk(sampler, job, &filter, chunk)?;
        if job.strict {
            records
                .iter()
                .filter_map(refused)
                .next()
                .map_or(Ok(()), |one| Err(DriverError::Refused { id: one.id, reason: one.refused }))?;
        }
        records.iter().try_for_each(|record| lines.append(record))?;
        lines.sync()?;
        for record in &records {
            report.add(record);
            observer.event(Event::Sampled(record));
        }
        let done = progress(&report);
        observer.event(Event::Progress { stage, done, total });
        if done < total && observer.cancelled() {
            return Err(DriverError::Cancelled { stage, done, total });
        }
    }
    all_refused(job, &report)?;
    observer.event(Event::Generated(&report));
    Ok(report)
}

/// The whole lines of a pairs file that may still grow; none of an absent one.
///
/// # Errors
///
/// What reading meets; yields an error for a line that is no record.
pub fn written_pairs(
    path: &Path,
) -> Result<impl Iterator<Item = Result<PairRecord, DriverError>>, DriverError> {
    whole_lines(path)
}

fn refused(record: &PairRecord) -> Option<Refused> {
    let refused = record.refusal.clone()?;
    Some(Refused { id: record.id.clone(), refused })
}

/// The first refusal in the pairs file, as an error.
fn refuse_first(job: &GenerateJob<'_>) -> Result<(), DriverError> {
    for record in written_pairs(&job.out)? {
        if let Some(Refused { id, refused: reason }) = refused(&record?) {
            return Err(DriverError::Refused { id, reason });
        }
    }
    Ok(())
}

/// Refuses to end where every query was refused.
fn all_refused(job: &GenerateJob<'_>, report: &GenerateReport) -> Result<(), DriverError> {
    if report.sampled == 0 || report.refused < report.sampled {
        return Ok(());
    }
    let records = written_pairs(&job.out)?.collect::<Result<Vec<_>, _>>()?;
    let all: Vec<Refused> = records.iter().filter_map(refused).collect();
    most_frequent(&all).map_or(Ok(()), |one| {
        let (id, reason) = (one.id.clone(), one.refused.clone());
        Err(DriverError::AllRefused { refused: all.len(), id, reason })
    })
}

/// Before anything is sampled: the queries that the sampler is not known to refuse must suffice, as far
/// as no filter rejects a response. Of a strict job every query that is sure to be asked must be such.
fn check_usable<S: Sampler>(
    sampler: &S,
    job: &GenerateJob<'_>,
    asked: &mut Asked<'_>,
    report: &GenerateReport,
) -> Result<(), DriverError> {
    let left = job.order.len() - report.sampled;
    let needed = match job.wanted {
        Wanted::Kept(wanted) => wanted.saturating_sub(report.kept),
        Wanted::All if job.strict => left,
        Wanted::All => usize::from(left > 0 && report.refused == report.sampled),
    };
    let (mut usable, mut refusals) = (0, Vec::new());
    for next in report.sampled..job.order.len() {
        if usable >= needed {
            return Ok(());
        }
        let Some((position, query)) = asked.chunk(next, 1)?.first() else { break };
        let (_, requests) = requests(job, *position, query)?;
        let mut found = None;
        for request in &requests {
            found = sampler.prompt_refusal(request, job.params).map_err(|e| Doing::Check.failed(e))?;
            if found.is_some() {
                break;
            }
        }
        match found {
            None => usable += 1,
            Some(refusal) => {
                let (id, reason) = (query.id.clone(), refusal.message);
                if job.strict {
                    return Err(DriverError::Refused { id, reason });
                }
                refusals.push(Refused { id, refused: reason });
            }
        }
    }
    let Some(one) = most_frequent(&refusals).filter(|_| usable < needed) else { return Ok(()) };
    let (refused, id, reason) = (refusals.len(), one.id.clone(), one.refused.clone());
    Err(match usable {
        0 if report.sampled == 0 => DriverError::AllRefused { refused, id, reason },
        _ => DriverError::TooFewUsable { needed, usable, refused, id, reason },
    })
}

/// A query's constitutions, and a request for each.
fn requests(
    job: &GenerateJob<'_>,
    position: usize,
    query: &Query,
) -> Result<(Vec<Constitution>, Vec<SampleRequest>), DriverError> {
    let (iteration, number) = (job.iteration as u64, position as u64);
    let mut draw = stream(job.seed, iteration, number, Purpose::Constitutions);
    let constitutions = job.constitutions.for_query(&query.id, job.n_constitutions, &mut draw)?;
    let mut requests = Vec::with_capacity(constitutions.len());
    for (index, constitution) in constitutions.iter().enumerate() {
        requests.push(SampleRequest {
            prompt: job.task.sampling_prompt(constitution, &query.text)?,
            stream: StreamKey::new(job.seed, iteration, number, index as u64),
        });
    }
    Ok((constitutions, requests))
}

/// How many queries to sample next, given what has been sampled; `None` when there is enough.
fn next_chunk(job: &GenerateJob<'_>, report: &GenerateReport) -> Result<Option<usize>, DriverError> {
    let missing = match job.wanted {
        Wanted::Kept(wanted) => wanted.saturating_sub(report.kept),
        Wanted::All => job.order.len() - report.sampled,
    };
    if missing == 0 {
        return Ok(None);
    }
    let left = job.order.len() - report.sampled;
    if let (0, Wanted::Kept(wanted)) = (left, job.wanted) {
        let reasons = report.rejected.to_string();
        let (sampled, kept) = (report.sampled, report.kept);
        return Err(DriverError::QueriesExhausted { sampled, kept, wanted, reasons });
    }
    Ok(Some(missing.min(job.chunk.max(1)).min(left)))
}

/// Queries that are read together.
pub(crate) const READ_AHEAD: usize = 4096;

/// The queries in the order in which they are asked, some of them at a time.
struct Asked<'a> {
    job: &'a GenerateJob<'a>,
    first: usize,
    block: Vec<(usize, Query)>,
}

impl<'a> Asked<'a> {
    fn new(job: &'a GenerateJob<'a>) -> Self {
        Self { job, first: 0, block: Vec::new() }
    }

    /// The `len` queries that come after the first `sampled` ones, with their positions.
    fn chunk(&mut self, sampled: usize, len: usize) -> Result<&[(usize, Query)], DriverError> {
        if sampled < self.first || sampled + len > self.first + self.block.len() {
            let left = self.job.order.get(sampled..).unwrap_or_default();
            let positions = &left[..left.len().min(READ_AHEAD.max(len))];
            let queries = self.job.queries.read(positions)?;
            self.block = positions.iter().copied().zip(queries).collect();
            self.first = sampled;
        }
        let start = sampled - self.first;
        Ok(self.block.get(start..start + len).unwrap_or_default())
    }
}

/// Whether the pairs file holds all that is wanted, so that no model is needed. If so, a torn last line is cut off.
pub(crate) fn is_generated(job: &GenerateJob<'_>) -> Result<bool, DriverError> {
    let report = committed(job, &mut Asked::new(job))?;
    let finished = next_chunk(job, &report)?.is_none();
    if finished {
        JsonlAppender::open_at(&job.out, report.sampled)?;
    }
    Ok(finished)
}

/// The whole chunks that the pairs file holds already.
fn committed(job: &GenerateJob<'_>, asked: &mut Asked<'_>) -> Result<GenerateReport, DriverError> {
    let mut records = whole_lines::<PairRecord>(&job.out)?.peekable();
    let mut report = GenerateReport::default();
    while let Ok(Some(chunk)) = next_chunk(job, &report) {
        if records.peek().is_none() {
            return Ok(report);
        }
        let mut after = report.clone();
        for (offset, (_, query)) in asked.chunk(report.sampled, chunk)?.iter().enumerate() {
            let Some(record) = records.next() else { return Ok(report) };
            let (record, expected) = (record?, &query.id);
            if record.id != *expected {
                let (path, line) = (job.out.clone(), report.sampled + offset + 1);
                return Err(DriverError::ForeignPair {
                    path,
                    line,
                    found: record.id,
                    expected: expected.clone(),
                });
            }
            after.add(&record);
        }
        report = after;
    }
    Ok(report)
}

fn sample_chunk<S: Sampler>(
    sampler: &mut S,
    job: &GenerateJob<'_>,
    filter: &ResponseFilter,
    chunk: &[(usize, Query)],
) -> Result<Vec<PairRecord>, DriverError> {
    let mut all = Vec::with_capacity(chunk.len() * job.n_constitutions);
    let mut plans = Vec::with_capacity(chunk.len());
    for (position, query) in chunk {
        let (constitutions, requests) = requests(job, *position, query)?;
        all.extend(requests);
        plans.push((*position, query, constitutions));
    }
    let samples = sampler.sample(&all, job.params).map_err(|e| Doing::Sample.failed(e))?;
    if samples.len() != all.len() {
        return Err(DriverError::SampleCount { asked: all.len(), got: samples.len() });
    }
    let mut samples = samples.into_iter();
    plans
        .into_iter()
        .map(|(position, query, constitutions)| {
            let record = record(job, filter, (position, query), &constitutions, &mut samples)?;
            screened(sampler, record)
        })
        .collect()
}

/// One query's line: its constitutions, training prompts and responses, and why it is rejected if it is.
fn record(
    job: &GenerateJob<'_>,
    filter: &ResponseFilter,
    (position, query): (usize, &Query),
    constitutions: &[Constitution],
    samples: &mut impl Iterator<Item = Result<Sample, Refusal>>,
) -> Result<PairRecord, DriverError> {
    let mut order = stream(job.seed, job.iteration as u64, position as u64, Purpose::PrincipleOrder);
    let mut prompts = Vec::with_capacity(constitutions.len());
    for constitution in constitutions {
        prompts.push(job.task.training_prompt(&constitution.shuffled(&mut order), &query.text)?);
    }
    let (mut responses, mut refusals) = (Vec::new(), Vec::new());
    for (constitution, sample) in samples.take(constitutions.len()).enumerate() {
        match sample {
            Ok(sample) => {
                responses.push(filter.response(constitution, sampled(sample), job.score_eos));
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    let mut rejected = filter.reject(&responses.iter().map(Candidate::from).collect::<Vec<_>>());
    rejected.extend(refusals.iter().map(|refusal| rejection(refusal.cause)));
    rejected.sort_unstable();
    rejected.dedup();
    Ok(PairRecord {
        id: query.id.clone(),
        query: query.text.clone(),
        constitutions: constitutions
            .iter()
            .map(|constitution| PairConstitution { id: constitution.id(), text: constitution.render() })
            .collect(),
        prompts,
        chat: job.task.is_instructed(),
        rejected,
        refusal: refusals.into_iter().next().map(|refusal| refusal.message),
        responses,
    })
}

/// The record, rejected if the sampling model could not score it.
fn screened<S: Sampler>(sampler: &S, record: PairRecord) -> Result<PairRecord, DriverError> {
    if !record.is_kept() {
        return Ok(record);
    }
    let set = contrast_set(&record)?;
    let refusal = sampler.set_refusal(&set).map_err(|e| Doing::Check.failed(e))?;
    let rejected = refusal.iter().map(|_| Rejection::SetRefused).collect();
    Ok(PairRecord { rejected, refusal: refusal.map(|refusal| refusal.message), ..record })
}

/// The reason of a set that is left out because a request of it was refused.
fn rejection(cause: RefusalCause) -> Rejection {
    match cause {
        RefusalCause::Prompt => Rejection::PromptRefused,
        RefusalCause::Server => Rejection::ServerRefused,
        RefusalCause::Answer => Rejection::AnswerUnusable,
    }
}

fn sampled(sample: Sample) -> Sampled {
    let finish = match sample.finish {
        FinishReason::Eos => Finish::Eos,
        FinishReason::Stop => Finish::Stop,
        FinishReason::Length => Finish::Length,
    };
    Sampled { text: sample.text, token_ids: sample.token_ids, finish }
}
