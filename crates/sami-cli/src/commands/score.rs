//! `sami score`: contrast matrices and the mutual information in them.

use std::path::PathBuf;

use sami_data::{PairReader, atomic_write};
use sami_driver::{SetScore, contrast_set};
use sami_torch::EngineOptions;

use crate::args::ModelArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::write_line;
use crate::pairs::look_through;

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
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    // Once through for the number and for bad lines, before a model is loaded.
    let (total, prompt_format) = look_through(&args.pairs)?;
    let mut policy = args.model.open(&EngineOptions { prompt_format, ..args.model.engine() })?;
    let sets = PairReader::open(&args.pairs)?
        .filter(|record| record.as_ref().map_or(true, |record| record.is_kept()))
        .map(|record| contrast_set(&record?));
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
    context.result(&summary, &summary)
}
