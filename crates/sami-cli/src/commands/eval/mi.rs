//! `sami eval mi`: mutual information on held-out queries, over the task's full set of constitutions.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sami_constitution::{ConstitutionSource, Task};
use sami_core::Estimate;
use sami_data::{OnBadLine, PairRecord, Query, RunDir, RunStage, atomic_write, read_pairs, read_queries};
use sami_driver::recipe::{self, ValidRecipe};
use sami_driver::{DriverError, GenerateJob, ScoreFile, Wanted, contrast_set, read_sets, written_pairs};
use sami_eval::evaluation::{Evaluation, file_of};
use sami_eval::evidence::Evidence;
use sami_eval::information::{ScoredQuery, paired_difference, read_scores};
use sami_torch::{ChatTemplate, PromptFormat, TorchPolicy};
use serde::Serialize;

use super::{existing, model_dir};
use crate::args::{FormatArgs, at_least_one};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::write_line;
use crate::progress::interrupted;

/// Queries that are scored between two looks at progress and interrupts.
const CHUNK: usize = 16;
/// The iteration number in the streams of this evaluation: neither training nor a run's own evaluation has it.
const STREAM: usize = usize::MAX - 1;

/// Mutual information of a run's models on held-out queries, over the task's full set of constitutions: the base, every
/// iteration, and other models as reference lines. Lengths, leaks and the information about each principle beside it.
///
/// Written to RUN/eval/mi/MODEL: pairs.jsonl, scores.jsonl, evidence.jsonl (which words tell the constitution) and
/// summary.json. What is there already is kept. Without --data the queries are those that the run's recipe kept out.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami eval mi runs/hh-rlhf --data helpful-base.jsonl.gz --data harmless-base.jsonl.gz --queries 250 --instruct instruct=mistral-7b-instruct"
)]
pub(crate) struct Args {
    /// The directory of a run.
    pub(crate) run: PathBuf,
    /// Held-out queries, instead of those that the recipe kept out. Queries that the run was trained on are left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    /// At most so many queries of each file.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = at_least_one)]
    pub(crate) queries: usize,
    /// Also a model that is not of the run, under this name. It reads the same prompts. May be given several times.
    #[arg(long, value_name = "NAME=DIR")]
    pub(crate) reference: Vec<String>,
    /// Also an instruct model, under this name: it reads the task's instruct prompt in its own chat format. May be given several
    /// times.
    #[arg(long, value_name = "NAME=DIR")]
    pub(crate) instruct: Vec<String>,
    /// At most so many constitutions per query; a larger set is sampled.
    #[arg(long, value_name = "C", default_value_t = 16, value_parser = at_least_one)]
    pub(crate) max_constitutions: usize,
    /// End with an error where the model cannot take a query, instead of leaving it out and going on.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Responses to follow word by word.
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(crate) evidence: usize,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Model {
    name: String,
    #[serde(flatten)]
    evaluation: Evaluation,
    /// Change of the information over constitutions since the base, query by query.
    change_from_base: Option<Estimate>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let run = existing(&args.run)?;
    let recipe = recipe::load(&run.recipe()).map_err(DriverError::from)?;
    let model = |name, dir, asked| Asked { name, dir, asked };
    let mut models = vec![model("iteration-0".to_owned(), recipe.model.base.clone(), How::AsTheBase)];
    for iteration in 1..=recipe.training.iterations {
        let checkpoint = run.iteration(iteration).checkpoint();
        if checkpoint.is_dir() {
            models.push(model(format!("iteration-{iteration}"), checkpoint, How::AsTheBase));
        } else {
            context.say(&format!("iteration {iteration} has no checkpoint yet and is left out"));
        }
    }
    for (given, asked, argument) in [
        (&args.reference, How::AsTheBase, "--reference"),
        (&args.instruct, How::InItsChatFormat, "--instruct"),
    ] {
        for one in given {
            let (name, dir) = named(one, argument)?;
            if models.iter().any(|other| other.name == name) {
                let reason = format!("{name:?} names two models; give each a name of its own");
                return Err(Failure::Argument { argument, reason });
            }
            if matches!(asked, How::InItsChatFormat) && ChatTemplate::open(&dir)?.is_none() {
                let reason = format!(
                    "{} has no chat template; a base model reads the prompts as they are, with --reference",
                    dir.display()
                );
                return Err(Failure::Argument { argument, reason });
            }
            models.push(model(name, dir, asked));
        }
    }
    let (constitutions, count) = recipe.constitutions.source()?.whole();
    let n_constitutions = count.min(args.max_constitutions as u64) as usize;
    let task = recipe.task.load()?;
    let queries = held_out(args, &run, &recipe, context)?;
    let job = Job {
        args,
        recipe: &recipe,
        constitutions: &constitutions,
        n_constitutions,
        task: &task,
        queries: &queries,
        context,
    };
    let mut found: Vec<Model> = Vec::new();
    let base = model_dir(&run, "iteration-0").join("scores.jsonl");
    for model in &models {
        let name = &model.name;
        let dir = model_dir(&run, name);
        context.say(&format!("{name}: {}", model.dir.display()));
        let evaluation = job.evaluate(model, &dir)?;
        let scores = read_scores(&dir.join("scores.jsonl")).map_err(sami_eval::Error::from)?;
        let before = read_scores(&base).map_err(sami_eval::Error::from)?;
        let change = if name == "iteration-0" { None } else { change(&before, &scores) };
        found.push(Model { name: name.clone(), evaluation, change_from_base: change });
    }
    context.result(&found, &table(&found))
}

/// A model that is asked.
struct Asked {
    name: String,
    dir: PathBuf,
    asked: How,
}

#[derive(Clone, Copy)]
enum How {
    /// With the prompts that the base reads.
    AsTheBase,
    /// With the task's instruct prompt.
    InItsChatFormat,
}

/// Change on the queries that the filters kept for both models.
fn change(before: &[ScoredQuery], after: &[ScoredQuery]) -> Option<Estimate> {
    let ids =
        |scores: &[ScoredQuery]| -> HashSet<String> { scores.iter().map(|one| one.id.clone()).collect() };
    let common: HashSet<String> = ids(before).intersection(&ids(after)).cloned().collect();
    let kept = |scores: &[ScoredQuery]| -> Vec<ScoredQuery> {
        scores.iter().filter(|one| common.contains(&one.id)).cloned().collect()
    };
    paired_difference(&kept(before), &kept(after)).ok()
}

/// `NAME=DIR`.
fn named(given: &str, argument: &'static str) -> Result<(String, PathBuf), Failure> {
    let refuse = |reason: String| Failure::Argument { argument, reason };
    let (name, dir) = given
        .split_once('=')
        .filter(|(name, dir)| !name.is_empty() && !dir.is_empty())
        .ok_or_else(|| refuse(format!("{given:?} should be NAME=DIR")))?;
    let plain = name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) && !name.starts_with('.');
    if !plain || name.starts_with("iteration-") {
        let rule = "use letters, digits, \"-\", \"_\" and \".\", and do not begin with \"iteration-\"";
        return Err(refuse(format!("{name:?} cannot name a reference; {rule}")));
    }
    Ok((name.to_owned(), PathBuf::from(dir)))
}

/// Queries that no iteration was trained on: at most `--queries` of each file.
fn held_out(
    args: &Args,
    run: &RunDir,
    recipe: &ValidRecipe,
    context: &Context,
) -> Result<Vec<Query>, Failure> {
    let mut trained = HashSet::new();
    for iteration in 1..=recipe.training.iterations {
        // The run may have been stopped while it wrote them.
        for record in written_pairs(&run.iteration(iteration).pairs())? {
            trained.insert(record?.query);
        }
    }
    let candidates = if args.data.is_empty() {
        let pairs = run.eval().join("iteration-0").join("pairs.jsonl");
        if !pairs.is_file() {
            let reason = format!(
                "the run has kept no queries out ({} is not there); give a file of held-out queries",
                pairs.display()
            );
            return Err(Failure::Argument { argument: "--data", reason });
        }
        if !run.read_state()?.is_some_and(|state| state.is_finished(0, RunStage::Evaluate)) {
            let reason = format!(
                "the run has not answered all of its held-out queries yet ({}); let `sami run` go on with it, \
                 or give a file of held-out queries",
                pairs.display()
            );
            return Err(Failure::Argument { argument: "--data", reason });
        }
        read_pairs(&pairs)?.into_iter().map(|record| Query { id: record.id, text: record.query }).collect()
    } else {
        let read = read_queries(&args.data, args.format.shape()?, OnBadLine::Stop)?;
        context.say(&read.report.to_string());
        read.queries
    };
    let all = candidates.len();
    let fresh: Vec<Query> = candidates.into_iter().filter(|query| !trained.contains(&query.text)).collect();
    if fresh.len() < all {
        context.say(&format!("{} queries were trained on and are left out", all - fresh.len()));
    }
    let mut taken: std::collections::BTreeMap<String, usize> = Default::default();
    let wanted = fresh.into_iter().filter(|query| {
        let of_file = taken.entry(file_of(&query.id).to_owned()).or_default();
        *of_file += 1;
        *of_file <= args.queries
    });
    let queries: Vec<Query> = wanted.collect();
    if queries.is_empty() {
        let reason = "every query was trained on; give queries that the run has not seen".to_owned();
        return Err(Failure::Argument { argument: "--data", reason });
    }
    Ok(queries)
}

/// What all models are evaluated with.
struct Job<'a> {
    args: &'a Args,
    recipe: &'a ValidRecipe,
    constitutions: &'a ConstitutionSource,
    n_constitutions: usize,
    task: &'a Task,
    queries: &'a Vec<Query>,
    context: &'a Context,
}

impl Job<'_> {
    /// Lets a model answer, scores its answers with itself, and follows some of them. Goes on where an earlier process stopped.
    fn evaluate(&self, model: &Asked, dir: &Path) -> Result<Evaluation, Failure> {
        let [pairs, scores, evidence, summary] =
            ["pairs.jsonl", "scores.jsonl", "evidence.jsonl", "summary.json"].map(|name| dir.join(name));
        if !summary.is_file() {
            let mut engine = sami::engine_options(self.recipe);
            // Nothing is trained, and none of the figures is a KL.
            (engine.lora, engine.keep_reference) = (None, false);
            let task = match model.asked {
                How::AsTheBase => self.task,
                How::InItsChatFormat => {
                    engine.prompt_format = PromptFormat::UserTurn;
                    &self.task.instructed()?
                }
            };
            let mut policy = TorchPolicy::open(&model.dir, &engine)?;
            self.answer(&mut policy, task, &pairs)?;
            self.score(&mut policy, &pairs, (&scores, &evidence))?;
        }
        let found = Evaluation::read(&pairs, &scores).map_err(sami_eval::Error::from)?;
        if found.asked != self.queries.len() {
            let reason = format!(
                "{} holds answers to {} queries, and {} are asked for; remove it to evaluate again",
                dir.display(),
                found.asked,
                self.queries.len()
            );
            return Err(Failure::Argument { argument: "--queries", reason });
        }
        atomic_write(&summary, |file| write_line(file, &found))?;
        Ok(found)
    }

    fn answer(&self, sampler: &mut TorchPolicy, task: &Task, pairs: &Path) -> Result<(), Failure> {
        let order: Vec<usize> = (0..self.queries.len()).collect();
        let params = self.recipe.sampling_params(task.stop_strings())?;
        let job = GenerateJob {
            seed: self.recipe.seed,
            iteration: STREAM,
            queries: self.queries,
            order: &order,
            wanted: Wanted::All,
            constitutions: self.constitutions,
            n_constitutions: self.n_constitutions,
            task,
            params: &params,
            score_eos: self.recipe.task.score_eos,
            chunk: self.recipe.sampling.chunk,
            strict: self.args.strict || self.recipe.data.strict,
            out: pairs.to_owned(),
        };
        sami_driver::generate(sampler, &job, &mut self.context.progress())?;
        Ok(())
    }

    fn score(
        &self,
        policy: &mut TorchPolicy,
        pairs: &Path,
        (scores, evidence): (&Path, &Path),
    ) -> Result<(), Failure> {
        let sets = read_sets(pairs)?;
        ScoreFile::open(scores, &sets, CHUNK)?.complete(policy, &mut self.context.progress())?;
        let mut followed = Vec::new();
        let mut progress = self.context.progress();
        progress.begin("follow", 0, self.args.evidence);
        for record in read_pairs(pairs)?.iter().filter(|record| is_set(record)).take(self.args.evidence) {
            if interrupted() {
                return Err(Failure::Paused);
            }
            // Another constitution for each query, so that all are seen.
            let response = followed.len() % record.responses.len();
            followed.extend(Evidence::new(policy, record, response)?);
            progress.advance("follow", followed.len(), self.args.evidence);
        }
        progress.end();
        atomic_write(evidence, |file| followed.iter().try_for_each(|one| write_line(file, one)))?;
        Ok(())
    }
}

fn is_set(record: &PairRecord) -> bool {
    record.is_kept() && contrast_set(record).is_ok()
}

fn table(models: &[Model]) -> String {
    let shown = |estimate: &Estimate| match estimate.standard_error {
        Some(error) => format!("{:.3} ± {error:.3}", estimate.mean),
        None => format!("{:.3}", estimate.mean),
    };
    let mut text = String::new();
    for model in models {
        let Model { name, evaluation, change_from_base } = model;
        let all = &evaluation.all;
        let _ = writeln!(
            text,
            "{name}: MI {} nats of at most {:.3}, {:.1} tokens, {} of {} queries scored",
            shown(&all.mi.constitutions),
            all.mi.cap,
            all.response_tokens.mean,
            all.mi.n,
            evaluation.asked
        );
        if !evaluation.rejected.is_empty() {
            let _ = writeln!(text, "  left out  {}", evaluation.rejected);
        }
        if let Some(change) = change_from_base {
            let _ = writeln!(text, "  since the base  {} nats, query by query", shown(change));
        }
        for (file, point) in &evaluation.by_file {
            let _ = writeln!(
                text,
                "  {file}  MI {} nats, {:.1} tokens, {} queries",
                shown(&point.mi.constitutions),
                point.response_tokens.mean,
                point.mi.n
            );
        }
        for principle in &evaluation.principles {
            let _ = writeln!(text, "  {}  {} nats of at most 0.693", principle.name, shown(&principle.mi));
        }
        if let Some(figures) = &evaluation.text {
            let _ = writeln!(
                text,
                "  text  {:.1}% leak ({} name, {} copy the constitution), {:.1}% distinct, {:.1}% repeated",
                100.0 * figures.leak_rate,
                figures.naming,
                figures.copying,
                100.0 * figures.distinct,
                100.0 * figures.repeated
            );
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_named_plainly() {
        let named = |given| named(given, "--reference");
        assert_eq!(named("instruct=a/b=c").unwrap(), ("instruct".to_owned(), PathBuf::from("a/b=c")));
        for wrong in ["instruct", "=dir", "instruct=", "a/b=dir", "..=dir", "iteration-3=dir"] {
            assert!(
                matches!(named(wrong), Err(Failure::Argument { argument: "--reference", .. })),
                "{wrong}"
            );
        }
    }
}
