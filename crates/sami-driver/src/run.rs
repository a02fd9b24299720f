//! Algorithm 1 over a run directory.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use sami_constitution::{ConstitutionSource, Task};
use sami_data::{QueryIndex, RejectionCounts, RunDir, RunLock, RunStage, write_json};
use sami_policy::{ContrastSet, PolicyProvider, SamplingParams, Start, TrainablePolicy};

use crate::batches::{Batches, Order};
use crate::error::{Doing, DriverError, PolicyError};
use crate::events::{Event, Observer};
use crate::files::{figures, remove_dir, sweep, whole_lines};
use crate::generate::{GenerateJob, Wanted, generate, is_generated, written_pairs};
use crate::guards::GuardReport;
use crate::plan::QueryPlan;
use crate::recipe::{Origin, StartFrom, ValidRecipe};
use crate::score::{ScoreFile, ScoreSummary, summarize};
use crate::screening::{Screening, TakenSets};
use crate::setup::{claim, load_constitutions, load_queries, refuse_foreign, write_constitutions};
use crate::sources::{PairSets, SetSource};
use crate::train::{TrainJob, read_sets, train};

/// A finished iteration, for the caller's hook.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// η, from 1.
    pub iteration: usize,
    /// N.
    pub iterations: usize,
    /// π_η.
    pub checkpoint: &'a Path,
    /// The pairs that it was trained on, and those that were rejected.
    pub pairs: &'a Path,
    /// The whole run.
    pub run: &'a RunDir,
}

/// Runs after every iteration, before the iteration counts as finished: when the run is interrupted in it, it is
/// called again for the same iteration.
pub type Hook<'a> = dyn FnMut(Finished<'_>) -> Result<(), PolicyError> + 'a;

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct RunReport {
    /// π_1 … π_N.
    pub checkpoints: Vec<PathBuf>,
    /// Loss and mutual information of the held-out queries' answers by π_0 … π_N; empty without evaluation.
    pub evaluations: Vec<ScoreSummary>,
    /// The last iteration whose model counts; below N where guards ended the run early.
    pub last: usize,
    /// Why the run ended early, if it did.
    pub stopped: Option<GuardReport>,
    /// Sets of the iterations that were left out because the model, or a server, refused them; by reason.
    pub refused: RejectionCounts,
    /// The model at the end: π of the last iteration, with its model card.
    pub final_model: PathBuf,
}

/// Algorithm 1 for one recipe, one run directory and one kind of policy.
#[derive(Debug)]
pub struct Driver<P> {
    pub(crate) recipe: ValidRecipe,
    pub(crate) provider: P,
    pub(crate) run: RunDir,
    /// Held as long as the driver lives.
    _lock: RunLock,
    task: Task,
    constitutions: ConstitutionSource,
    queries: QueryIndex,
    params: SamplingParams,
    pub(crate) plan: QueryPlan,
}

impl<P: PolicyProvider> Driver<P> {
    /// Reads the recipe's data and principles, checks that they suffice, and opens or makes the run directory `out`.
    /// Nothing is written before everything that can be known beforehand has been checked.
    ///
    /// # Errors
    ///
    /// Unreadable queries or principles, too few of them, a run directory of another recipe or in use by another process.
    pub fn new(recipe: ValidRecipe, out: &Path, provider: P) -> Result<Self, DriverError> {
        Self::with_origin(recipe, out, provider, &Origin::default())
    }

    /// As [`Driver::new`], with what the caller knows about itself and its machine; the run's copy of its recipe keeps it.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn with_origin(
        recipe: ValidRecipe,
        out: &Path,
        provider: P,
        origin: &Origin,
    ) -> Result<Self, DriverError> {
        let (gpus, base) = (recipe.model.gpus, &recipe.model.base);
        if gpus > 1 {
            return Err(DriverError::SeveralGpus { gpus, base: base.clone() });
        }
        let task = recipe.task.load()?;
        let queries = load_queries(&recipe)?;
        let constitutions = load_constitutions(&recipe, &queries)?;
        let plan = QueryPlan::new(&recipe, queries.len())?;
        let params = recipe.sampling_params(task.stop_strings())?;
        let run = RunDir::new(out);
        refuse_foreign(&run)?;
        let lock = run.lock()?;
        sweep(run.root())?;
        claim(&run, &recipe, queries.report(), origin)?;
        write_constitutions(&run, &constitutions)?;
        Ok(Self { recipe, provider, run, _lock: lock, task, constitutions, queries, params, plan })
    }

    /// The run directory.
    pub fn run_dir(&self) -> &RunDir {
        &self.run
    }

    /// Which queries are used for what.
    pub fn plan(&self) -> &QueryPlan {
        &self.plan
    }

    /// The queries, in the order of the data.
    pub fn queries(&self) -> &QueryIndex {
        &self.queries
    }

    /// Runs all iterations, or what an earlier process left of them.
    ///
    /// # Errors
    ///
    /// Whatever ends a stage; the run directory stays as it is, and the same call goes on from there.
    pub fn run(&self, observer: &mut dyn Observer, hook: &mut Hook<'_>) -> Result<RunReport, DriverError> {
        let iterations = self.recipe.training.iterations;
        let (mut checkpoints, mut evaluations) = (Vec::new(), Vec::new());
        let (mut last, mut stopped) = (iterations, None);
        let mut state = self.run.read_state()?.unwrap_or_default();
        for iteration in 0..=iterations {
            let checkpoint = self.checkpoint(iteration);
            let done = |stage| state.is_finished(iteration, stage);
            let (generated, trained, evaluated) =
                (done(RunStage::Generate), done(RunStage::Train), done(RunStage::Evaluate));
            if !evaluated && (checkpoint.is_some() || !self.plan.evaluation().is_empty()) {
                observer.event(Event::IterationBegun { iteration, iterations });
            }
            if checkpoint.is_some() {
                let exhausted = match (!generated).then(|| self.generate(iteration, observer)) {
                    Some(Err(error @ DriverError::QueriesExhausted { .. })) => Some(error),
                    Some(Err(error)) => return Err(error),
                    Some(Ok(())) => {
                        state.finish(iteration, RunStage::Generate);
                        self.run.write_state(&state)?;
                        None
                    }
                    None => None,
                };
                // These pairs were sampled by the model before. It may have collapsed so far that the filters left too few.
                if let Some(report) = self.watch_pairs(iteration, observer)? {
                    (last, stopped) = (iteration.saturating_sub(2), Some(report));
                    break;
                }
                exhausted.map_or(Ok(()), Err)?;
            }
            if checkpoint.is_some() && !trained {
                self.train(iteration, observer)?;
                state.finish(iteration, RunStage::Train);
                self.run.write_state(&state)?;
            }
            if !self.plan.evaluation().is_empty() {
                let summary = self.evaluate(iteration, observer)?;
                if let Some(report) = self.watch_evaluation(iteration, observer)? {
                    evaluations.extend(summary);
                    (last, stopped) = (iteration.saturating_sub(1), Some(report));
                    break;
                }
                evaluations.push(summary.map_or_else(|| Err(self.all_rejected(iteration)), Ok)?);
            }
            if !evaluated {
                if let Some(checkpoint) = &checkpoint {
                    let pairs = self.run.iteration(iteration).pairs();
                    let finished =
                        Finished { iteration, iterations, checkpoint, pairs: &pairs, run: &self.run };
                    hook(finished).map_err(|source| DriverError::Hook { iteration, source })?;
                }
                state.finish(iteration, RunStage::Evaluate);
                self.run.write_state(&state)?;
                if let Some(checkpoint) = &checkpoint {
                    observer.event(Event::IterationFinished { iteration, iterations, checkpoint });
                }
            }
            checkpoints.extend(checkpoint);
        }
        match (last, stopped) {
            (0, Some(report)) => Err(DriverError::Collapsed { report: Box::new(report) }),
            (last, stopped) => {
                let final_model = self.finish(last, stopped.as_ref(), &evaluations)?;
                let refused = self.refused()?;
                Ok(RunReport { checkpoints, evaluations, last, stopped, refused, final_model })
            }
        }
    }

    /// The sets that were left out of the iterations because they were refused.
    fn refused(&self) -> Result<RejectionCounts, DriverError> {
        let mut refused = RejectionCounts::default();
        for iteration in 1..=self.recipe.training.iterations {
            for record in written_pairs(&self.run.iteration(iteration).pairs())? {
                let record = record?;
                if record.refusal.is_some() {
                    refused.add(&record.rejected);
                }
            }
        }
        Ok(refused)
    }

    /// π_η's directory; `None` for π_0, the base.
    pub(crate) fn checkpoint(&self, iteration: usize) -> Option<PathBuf> {
        (iteration > 0).then(|| self.run.iteration(iteration).checkpoint())
    }

    /// Samples iteration η's pairs with π_{η−1}.
    fn generate(&self, iteration: usize, observer: &mut dyn Observer) -> Result<(), DriverError> {
        let order = self.plan.order(iteration, &self.used_before(iteration)?);
        let job = GenerateJob {
            iteration,
            order: &order,
            wanted: Wanted::Kept(self.recipe.training.queries(iteration)),
            out: self.run.iteration(iteration).pairs(),
            ..self.job(iteration)
        };
        self.sample(&job, self.checkpoint(iteration - 1).as_deref(), observer)
    }

    /// What all generations of this run share.
    fn job(&self, iteration: usize) -> GenerateJob<'_> {
        GenerateJob {
            seed: self.recipe.seed,
            iteration,
            queries: &self.queries,
            order: &[],
            wanted: Wanted::All,
            constitutions: &self.constitutions,
            n_constitutions: self.recipe.constitutions.n_constitutions,
            task: &self.task,
            params: &self.params,
            score_eos: self.recipe.task.score_eos,
            chunk: self.recipe.sampling.chunk,
            strict: self.recipe.data.strict,
            out: PathBuf::new(),
        }
    }

    /// Generates, without opening the model when an earlier process left nothing to do.
    fn sample(
        &self,
        job: &GenerateJob<'_>,
        checkpoint: Option<&Path>,
        observer: &mut dyn Observer,
    ) -> Result<(), DriverError> {
        if is_generated(job)? {
            return Ok(());
        }
        let start = checkpoint.map_or(Start::Base, Start::Checkpoint);
        let mut sampler = self.provider.sampler(start).map_err(|e| Doing::Open.failed(e))?;
        generate(&mut sampler, job, observer).map(|_| ())
    }

    /// The queries of all earlier iterations, rejected ones included: of each iteration's order, as many as it has lines.
    fn used_before(&self, iteration: usize) -> Result<HashSet<usize>, DriverError> {
        let mut used = HashSet::new();
        if self.recipe.training.start == StartFrom::Base {
            return Ok(used);
        }
        for earlier in 1..iteration {
            let order = self.plan.order(earlier, &used);
            let asked = whole_lines::<serde::de::IgnoredAny>(&self.run.iteration(earlier).pairs())?.count();
            used.extend(order.into_iter().take(asked));
        }
        Ok(used)
    }

    /// Trains π_η on iteration η's pairs. The checkpoint appears whole, so its presence says that this is done.
    fn train(&self, iteration: usize, observer: &mut dyn Observer) -> Result<(), DriverError> {
        let (checkpoint, state) = (
            self.run.iteration(iteration).checkpoint(),
            self.run.iteration(iteration).root().join("training-state"),
        );
        let training = &self.recipe.training;
        if !checkpoint.exists() {
            let mut sets = PairSets::open(&self.run.iteration(iteration).pairs())?;
            let previous = self.checkpoint(iteration - 1).filter(|_| training.start == StartFrom::Previous);
            let start = previous.as_deref().map_or(Start::Base, Start::Checkpoint);
            let mut policy = self.provider.policy(start).map_err(|e| Doing::Open.failed(e))?;
            // Where another program samples, it cannot tell what the policy will take.
            let screening = Screening::new(&policy, &mut sets, self.recipe.data.strict)?;
            screening.write(&self.run.iteration(iteration).root().join("refused.jsonl"))?;
            let mut sets = TakenSets::new(&mut sets, &screening);
            let batches = Batches::new(sets.count(), training.batch_size, Order::Sequential);
            let job = TrainJob {
                iteration,
                objective: self.recipe.objective(),
                schedule: training.lr_schedule(),
                beta: training.beta,
                steps: training.steps(iteration),
                batches: batches.ok_or(DriverError::NothingToScore)?,
                micro_batch: training.micro_batch,
                metrics: self.run.iteration(iteration).metrics(),
                state: state.clone(),
                save_state_every: training.save_state_every,
            };
            train(&mut policy, &mut sets, &job, observer)?;
            policy.save(&checkpoint).map_err(|e| Doing::Save.failed(e))?;
        }
        remove_dir(&state)
    }

    /// Scores sets with a model, or those that an earlier process left.
    fn score(
        &self,
        sets: &[ContrastSet],
        out: &Path,
        checkpoint: Option<&Path>,
        observer: &mut dyn Observer,
    ) -> Result<(), DriverError> {
        let scores = ScoreFile::open(out, sets, self.recipe.sampling.chunk)?;
        if scores.is_whole() {
            return Ok(());
        }
        let start = checkpoint.map_or(Start::Base, Start::Checkpoint);
        let mut policy = self.provider.policy(start).map_err(|e| Doing::Open.failed(e))?;
        scores.complete(&mut policy, observer)
    }

    /// Where π_η's answers to the held-out queries are kept.
    pub(crate) fn evaluation_dir(&self, iteration: usize) -> PathBuf {
        self.run.eval().join(format!("iteration-{iteration}"))
    }

    /// Why there are no figures of π_η's answers.
    fn all_rejected(&self, model: usize) -> DriverError {
        DriverError::AllRejected {
            path: self.evaluation_dir(model).join("pairs.jsonl"),
            model,
            queries: self.plan.evaluation().len(),
        }
    }

    /// Lets π_η answer the held-out queries, and scores its answers with itself; `None` where the filters kept none of them.
    fn evaluate(
        &self,
        iteration: usize,
        observer: &mut dyn Observer,
    ) -> Result<Option<ScoreSummary>, DriverError> {
        let dir = self.evaluation_dir(iteration);
        let path = dir.join("summary.json");
        let summary = match figures(&path)? {
            Some(summary) => summary,
            None => {
                let checkpoint = self.checkpoint(iteration);
                // The same draws in every iteration: differences between models, not between draws.
                let job = GenerateJob {
                    order: self.plan.evaluation(),
                    out: dir.join("pairs.jsonl"),
                    ..self.job(EVALUATION)
                };
                self.sample(&job, checkpoint.as_deref(), observer)?;
                let sets = match read_sets(&job.out) {
                    Err(DriverError::NoPairs { .. }) => return Ok(None),
                    sets => sets?,
                };
                let scores = dir.join("scores.jsonl");
                self.score(&sets, &scores, checkpoint.as_deref(), observer)?;
                // From the file, so that it is the same however often scoring was interrupted.
                let summary = summarize(&scores, &sets)?;
                write_json(&path, &summary)?;
                summary
            }
        };
        observer.event(Event::Evaluated { iteration, summary: &summary });
        Ok(Some(summary))
    }
}

/// The iteration number in the streams of evaluation: no training iteration has it.
const EVALUATION: usize = usize::MAX;
