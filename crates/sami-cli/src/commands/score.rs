//! `sami score`: contrast matrices and the mutual information in them.

use std::path::PathBuf;

use sami_data::atomic_write;
use sami_driver::{PairSets, ScoreSummary, Screening, SetScore, SetSource, TakenSets};
use sami_torch::EngineOptions;
use serde::Serialize;

use crate::args::{ModelArgs, check_out};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::write_line;
use crate::pairs::prompt_format;

/// Queries that are scored between two looks at progress and interrupts.
const CHUNK: usize = 16;

/// Contrast matrices of pairs, one JSON line per query, and the mutual information in them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami score --model mistral-7b --pairs pairs.jsonl --out scores.jsonl\n\n\
    Each line: {\"id\", \"mean\", \"sum\", \"tokens\", \"loss\", \"mi\"}; matrices are [constitution][response] in nats."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Pairs: our JSONL, or the paper's JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) pairs: PathBuf,
    /// One JSON line per query.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// End with an error where the model cannot take a pair, instead of leaving it out and going on.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// What came of it.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    summary: ScoreSummary,
    /// Pairs that the model cannot take.
    refused: usize,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    check_out(&args.out, [&args.pairs])?;
    // Once through for bad lines, before a model is loaded, and once for what the model cannot take.
    let mut pairs = PairSets::open(&args.pairs)?;
    let prompt_format = prompt_format(&args.pairs)?;
    let mut policy = args.model.open(&EngineOptions { prompt_format, ..args.model.engine() })?;
    let screening = Screening::new(&policy, &mut pairs, args.strict)?;
    let list = args.out.with_extension("refused.jsonl");
    screening.write(&list)?;
    let mut taken = TakenSets::new(&mut pairs, &screening);
    let total = taken.count();
    let sets = (0..total).map(|position| taken.set(position));
    let mut scored: Result<_, Failure> = Err(Failure::Interrupted);
    let written = atomic_write(&args.out, |file| {
        let mut refused = None;
        let mut sink = |score: &SetScore| {
            // The first failed write is the one to report; the file is dropped then.
            if refused.is_none() {
                refused = write_line(file, score).err();
            }
            Ok(())
        };
        let outcome = sami_driver::score(&mut policy, sets, total, CHUNK, &mut sink, &mut context.progress());
        if let Some(error) = refused {
            return Err(error);
        }
        scored = outcome.map_err(Failure::from);
        if scored.is_ok() { Ok(()) } else { Err(std::io::Error::other("not finished")) }
    });
    let summary = match (scored, written) {
        (Ok(summary), Ok(())) => summary,
        (Ok(_), Err(error)) | (Err(Failure::Interrupted), Err(error)) => return Err(error.into()),
        (Err(failure), _) => return Err(failure),
    };
    if policy.boundary_merges() > 0 {
        context.say(&format!(
            "note: in {} entries a token spans the end of the prompt; what is counted begins at the prompt's own length",
            policy.boundary_merges()
        ));
    }
    let refused = screening.refused().len();
    let mut text = summary.to_string();
    if refused > 0 {
        text.push_str(&format!("\nleft out             {refused}, {} says why", list.display()));
    }
    context.result(&Found { summary, refused }, &text)
}
