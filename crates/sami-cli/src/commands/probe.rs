//! `sami probe`: before a run.

use std::fmt;

use sami_constitution::{Article, Constitution, ConstitutionSpace, Task};
use sami_core::{Estimate, Objective};
use sami_data::{Query, RejectionCounts, ResponseFilter, read_queries};
use sami_driver::DriverError;
use sami_eval::evaluation::PrincipleInformation;
use sami_eval::probe::{
    Asked, Connection, GradientSignal, Information, Prompts, RefusedQuery, ask, information,
};
use sami_policy::SamplingParams;
use sami_torch::{EngineOptions, TorchPolicy, Work, plan_memory};
use serde::Serialize;

use crate::args::{ModelArgs, TaskArgs, at_least_one};
use crate::context::Context;
use crate::failure::Failure;
use crate::hub;
use crate::progress::interrupted;

/// Queries that are asked and scored between two looks at progress and interrupts.
const CHUNK: usize = 8;
/// At most so many constitutions per query.
const MAX_CONSTITUTIONS: u64 = 16;

/// Minutes, before a run: is the connection between these principles and this model strong enough to amplify?
///
/// Reports the untrained model's mutual information between constitutions and responses, by principle too; the noise floor (the
/// same between rewordings of one constitution); and the gradient's signal to noise in a batch. Trains nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami probe --model mistral-7b --data harmless-base.jsonl.gz --principles principles.toml"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) task: TaskArgs,
    /// Queries to ask, evenly spaced over the files.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    pub(crate) queries: usize,
    /// At most this many tokens per response.
    #[arg(long, value_name = "N", default_value_t = 350, value_parser = at_least_one)]
    pub(crate) max_new_tokens: usize,
    /// Divides the logits; at 1 the estimates are those of the model's own distribution.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Queries per optimizer step of the run to come: the signal to noise is told for a batch of it.
    #[arg(long, value_name = "B", default_value_t = 128, value_parser = at_least_one)]
    pub(crate) batch_size: usize,
    /// Seed of all draws.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// End with an error where the model cannot take a query, instead of leaving it out and going on.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Leave the gradient out: half the time, and the memory of scoring alone.
    #[arg(long)]
    pub(crate) no_gradient: bool,
}

/// What a probe found.
#[derive(Debug, Serialize)]
struct Found {
    queries: usize,
    rejected: RejectionCounts,
    /// Queries that the model cannot take.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<RefusedQuery>,
    /// Over all constitutions; nats.
    mi: Estimate,
    cap: f64,
    principles: Vec<PrincipleInformation>,
    /// Between rewordings of the constitution that takes every principle's own side.
    floor: Option<Estimate>,
    gradient: Option<GradientSignal>,
    signal_to_noise: Option<f64>,
    batch_size: usize,
    connection: Connection,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let task = args.task.task()?;
    let data = args.task.data.iter().map(|file| hub::data(file)).collect::<Result<Vec<_>, _>>()?;
    let read = read_queries(&data, args.task.format.shape()?, args.task.on_bad_line)?;
    context.say(&read.report.to_string());
    let all = read.queries;
    let n = args.queries.min(all.len());
    let queries: Vec<Query> = (0..n).map(|i| all[i * all.len() / n].clone()).collect();
    let sampling = sami_policy::SamplingParamsBuilder {
        max_new_tokens: args.max_new_tokens,
        temperature: args.temperature,
        stop: task.stop_strings().to_vec(),
        ..SamplingParams::builder()
    };
    let params = sampling.check()?;
    let space = ConstitutionSpace::new(args.task.principles()?);
    let kinds = constitutions(&space);
    let filter = ResponseFilter::new(task.rules().clone())?;
    let engine = EngineOptions { prompt_format: args.task.prompt_format(), ..args.model.engine() };
    let model = hub::model(&args.model.model)?;
    // Before the weights are loaded: what opening a model for scores does not ask.
    let gradient = (!args.no_gradient).then_some(Work::Gradient);
    for work in [Work::Sample].into_iter().chain(gradient) {
        plan_memory(&model, &engine, work, None)?.check(&engine)?;
    }
    let mut policy = args.model.open(&engine)?;
    let mut probe = Probe { args, context, task: &task, filter, params, policy: &mut policy };
    let contrast = probe.ask("constitutions", &queries, &kinds.all, 0)?;
    let Some(Information { all: mi, principles }) = probe.information(&contrast, &kinds.all)? else {
        if let (true, Some(one)) = (contrast.refused.len() == queries.len(), contrast.refused.first()) {
            return Err(DriverError::AllRefused {
                refused: contrast.refused.len(),
                id: one.id.clone(),
                reason: one.refused.clone(),
            }
            .into());
        }
        let reason =
            format!("every response was filtered out ({}); look at the task's rules", contrast.rejected);
        return Err(Failure::Argument { argument: "--task", reason });
    };
    let reworded = probe.ask("rewordings", &queries, &kinds.reworded, 1)?;
    let floor = probe.information(&reworded, &[])?.map(|floor| floor.all);
    let gradient = if args.no_gradient { None } else { probe.gradient(&contrast)? };
    let found = Found {
        queries: queries.len(),
        rejected: contrast.rejected,
        refused: contrast.refused,
        connection: Connection::decide(&mi, floor.as_ref()),
        mi,
        cap: (kinds.all.len() as f64).ln(),
        principles,
        floor,
        signal_to_noise: gradient.map(|gradient| gradient.ratio(args.batch_size)),
        gradient,
        batch_size: args.batch_size,
    };
    context.result(&found, &found)
}

/// The constitutions that a probe asks under.
struct Constitutions {
    /// Every combination of sides.
    all: Vec<Constitution>,
    /// One constitution in two forms that ask for the same: the articles in their order and in the opposite one, each principle in
    /// its first and its last wording.
    reworded: Vec<Constitution>,
}

fn constitutions(space: &ConstitutionSpace) -> Constitutions {
    let all: Vec<_> = space.all().take(MAX_CONSTITUTIONS as usize).collect();
    let own = all.first().map(|one| one.articles().to_vec()).unwrap_or_default();
    let mut reworded: Vec<Article> = Vec::new();
    for (index, principle) in space.principles().principles().iter().enumerate() {
        if let (Some(article), Some(text)) = (own.get(index), principle.statements.last()) {
            reworded.insert(0, Article { text: text.clone(), ..article.clone() });
        }
    }
    let reworded = [own, reworded].into_iter().filter_map(|articles| Constitution::new(articles).ok());
    Constitutions { reworded: reworded.collect(), all }
}

struct Probe<'a> {
    args: &'a Args,
    context: &'a Context,
    task: &'a Task,
    filter: ResponseFilter,
    params: SamplingParams,
    policy: &'a mut TorchPolicy,
}

impl Probe<'_> {
    fn ask(
        &mut self,
        what: &str,
        queries: &[Query],
        constitutions: &[Constitution],
        number: u64,
    ) -> Result<Asked, Failure> {
        let mut progress = self.context.progress();
        progress.begin(what, 0, queries.len());
        let mut all = Asked::default();
        for (chunk, part) in (0_u64..).zip(queries.chunks(CHUNK)) {
            if interrupted() {
                return Err(Failure::Interrupted);
            }
            let mut prompts = Vec::with_capacity(part.len());
            for query in part {
                let [mut sampling, mut training] = [Vec::new(), Vec::new()];
                for constitution in constitutions {
                    sampling.push(self.task.sampling_prompt(constitution, &query.text)?);
                    training.push(self.task.training_prompt(constitution, &query.text)?);
                }
                prompts.push(Prompts { id: query.id.clone(), sampling, training });
            }
            let draws = (self.args.seed, number + (chunk << 32));
            let asked = ask(self.policy, &prompts, &self.filter, &self.params, draws)?;
            if let (true, Some(one)) = (self.args.strict, asked.refused.first()) {
                let (id, reason) = (one.id.clone(), one.refused.clone());
                return Err(DriverError::Refused { id, reason }.into());
            }
            all.extend(asked);
            progress.advance(what, (chunk as usize * CHUNK + part.len()).min(queries.len()), queries.len());
        }
        progress.end();
        Ok(all)
    }

    fn information(
        &mut self,
        asked: &Asked,
        constitutions: &[Constitution],
    ) -> Result<Option<Information>, Failure> {
        let ids: Vec<String> = constitutions.iter().map(Constitution::id).collect();
        Ok(information(self.policy, &asked.sets, &ids.iter().map(String::as_str).collect::<Vec<_>>())?)
    }

    fn gradient(&mut self, asked: &Asked) -> Result<Option<GradientSignal>, Failure> {
        let (mut progress, total) = (self.context.progress(), asked.sets.len());
        progress.begin("gradient", 0, total);
        let found = GradientSignal::measure(self.policy, &asked.sets, &Objective::default(), |done| {
            progress.advance("gradient", done, total);
        });
        progress.end();
        Ok(found?)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |estimate: &Option<Estimate>| match estimate {
            Some(Estimate { mean, standard_error: Some(error) }) => format!("{mean:.4} ± {error:.4} nats"),
            Some(Estimate { mean, .. }) => format!("{mean:.4} nats, of one query"),
            None => "nothing: every response was filtered out".to_owned(),
        };
        writeln!(f, "mutual information   {}, at most {:.3}", shown(&Some(self.mi)), self.cap)?;
        for PrincipleInformation { name, mi, .. } in &self.principles {
            writeln!(f, "  {name:<18} {}, at most 0.693", shown(&Some(*mi)))?;
        }
        writeln!(f, "noise floor          {} between rewordings of one constitution", shown(&self.floor))?;
        if let Some(ratio) = self.signal_to_noise {
            writeln!(f, "gradient             signal to noise {ratio:.2} in a batch of {}", self.batch_size)?;
        }
        if !self.rejected.is_empty() {
            writeln!(f, "left out             {}", self.rejected)?;
        }
        for RefusedQuery { id, refused } in &self.refused {
            writeln!(f, "  {id}: {refused}")?;
        }
        write!(f, "connection           {}: {}", self.connection, self.connection.advice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sami_constitution::PrincipleSet;

    #[test]
    fn a_rewording_asks_for_the_same_in_other_words() {
        let space = ConstitutionSpace::new(PrincipleSet::helpful_harmless());
        let found = constitutions(&space);
        assert_eq!((found.all.len(), found.reworded.len()), (4, 2));
        assert_eq!(found.reworded[0].id(), found.reworded[1].id());
        assert_ne!(found.reworded[0].render(), found.reworded[1].render());
    }
}
