//! From a recipe to one that can run.

use std::fmt;
use std::path::{Path, PathBuf};

use sami_core::Objective;
use sami_data::RunDir;
use sami_policy::{SamplingParams, SamplingParamsBuilder, SamplingParamsError};
use thiserror::Error;

use super::{Device, Dtype, OptimizerName, Recipe, TaskName, Updates, parse};

/// What is impossible about a field's value.
#[derive(Debug, Error, PartialEq)]
pub enum Problem {
    /// A field without a default is absent.
    #[error("is missing; {hint}")]
    Missing {
        /// What to write.
        hint: &'static str,
    },
    /// A count that must be positive.
    #[error("is {got}; it must be at least {least}")]
    TooSmall {
        /// The value.
        got: usize,
        /// The smallest possible one.
        least: usize,
    },
    /// Not a finite number above zero.
    #[error("is {0}; it must be a finite number above 0")]
    NotPositive(f64),
    /// Negative or not finite.
    #[error("is {0}; it must be 0 or a finite number above 0")]
    Negative(f64),
    /// Outside [0, 1).
    #[error("is {0}; it must lie in [0, 1)")]
    NotARate(f64),
    /// A factor below 1.
    #[error("is {0}; it must be at least 1, or 0 to leave it out")]
    NotAFactor(f64),
    /// A count that exceeds what there is.
    #[error("is {got}, but there are {most} {of}")]
    TooLarge {
        /// The value.
        got: usize,
        /// The largest possible one.
        most: usize,
        /// What is counted.
        of: &'static str,
    },
    /// Two fields that exclude each other.
    #[error("contradicts {with}")]
    Contradicts {
        /// The other field, and what to do.
        with: &'static str,
    },
    /// Meant for the other optimizer.
    #[error("belongs to {owner}, but the optimizer is {optimizer}; remove it")]
    OtherOptimizer {
        /// Whose field it is.
        owner: &'static str,
        /// What the recipe uses.
        optimizer: &'static str,
    },
    /// Rounded updates of weights that are not bf16.
    #[error("is \"bf16-pure\", but model.dtype is \"f32\"; use \"exact\" or dtype \"bf16\"")]
    PureOnF32,
    /// Chosen contrasts that take no sides of the principles.
    #[error("{0}")]
    Chosen(String),
    /// A sampling parameter.
    #[error(transparent)]
    Sampling(#[from] SamplingParamsError),
    /// TOML's integers end at 2^63 − 1.
    #[error("is {0}; it must be below 2^63, the end of TOML's integers")]
    BeyondToml(u64),
    /// The objective refuses its settings.
    #[error(transparent)]
    Objective(#[from] sami_core::Error),
}

/// A field with an impossible value.
#[derive(Debug, Error, PartialEq)]
pub struct RecipeProblem {
    /// The field as `section.name`.
    pub field: &'static str,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

impl fmt::Display for RecipeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, problem } = self;
        let (section, name) = field.rsplit_once('.').unwrap_or(("", field));
        match problem {
            // Sampling parameters name themselves.
            Problem::Sampling(error) if error.to_string().starts_with(&format!("{name} is ")) => {
                write!(f, "{section}.{error}")
            }
            Problem::Sampling(error) => write!(f, "{field}: {error}"),
            problem => write!(f, "{field} {problem}"),
        }
    }
}

/// A recipe in which every value is possible. Read it like a [`Recipe`]; it cannot be changed.
#[derive(Clone, Debug)]
pub struct ValidRecipe {
    recipe: Recipe,
    objective: Objective,
    sampling: SamplingParams,
}

impl Recipe {
    /// The recipe, if every value is possible. The stop strings of the task are added when the run begins.
    pub fn check(self) -> Result<ValidRecipe, RecipeProblem> {
        if self.seed > i64::MAX as u64 {
            return Err(problem("seed", Problem::BeyondToml(self.seed)));
        }
        if self.model.base.as_os_str().is_empty() {
            let hint = "name the directory of the base model in Hugging Face layout";
            return Err(problem("model.base", Problem::Missing { hint }));
        }
        if self.model.gpus > 1 && self.model.device == Device::Cpu {
            let with = "model.device = \"cpu\"; name a GPU, for example \"cuda:0\"";
            return Err(problem("model.gpus", Problem::Contradicts { with }));
        }
        if self.data.files.is_empty() {
            let hint = "list at least one file of queries";
            return Err(problem("data.files", Problem::Missing { hint }));
        }
        if self.data.shape().is_err() {
            let with = "data.format, which says itself where the query stands; use \"auto\" or \"jsonl\"";
            return Err(problem("data.query_field", Problem::Contradicts { with }));
        }
        let no_file = |files: &[PathBuf]| files.iter().any(|file| file.as_os_str().is_empty());
        if no_file(&self.data.files) {
            let hint = "one of its names is empty; name a file of queries";
            return Err(problem("data.files", Problem::Missing { hint }));
        }
        if self.task.file.is_some() && self.task.name != TaskName::default() {
            let with = "task.file, which brings a task of its own";
            return Err(problem("task.name", Problem::Contradicts { with }));
        }
        let counts = [
            ("constitutions.n_constitutions", self.constitutions.n_constitutions, 2),
            ("sampling.chunk", self.sampling.chunk, 1),
            ("training.iterations", self.training.iterations, 1),
            ("training.batch_size", self.training.batch_size, 1),
            ("training.batches", self.training.batches, 1),
            ("training.micro_batch", self.training.micro_batch.unwrap_or(1), 1),
            ("model.token_budget", self.model.token_budget.unwrap_or(1), 1),
            ("model.generation_batch", self.model.generation_batch.unwrap_or(1), 1),
            ("model.gpus", self.model.gpus, 1),
            ("guards.queries", self.guards.queries, 1),
        ];
        for (field, got, least) in counts {
            if got < least {
                return Err(problem(field, Problem::TooSmall { got, least }));
            }
        }
        self.check_constitutions()?;
        self.check_optimizer()?;
        self.check_schedule()?;
        self.check_guards()?;
        let sampling = self.sampling_params()?;
        let objective =
            self.objective.check().map_err(|source| problem("objective", Problem::Objective(source)))?;
        Ok(ValidRecipe { recipe: self, objective, sampling })
    }

    fn check_optimizer(&self) -> Result<(), RecipeProblem> {
        let training = &self.training;
        if !(training.learning_rate.is_finite() && training.learning_rate > 0.0) {
            return Err(problem("training.learning_rate", Problem::NotPositive(training.learning_rate)));
        }
        if let Some(norm) = training.max_grad_norm.filter(|norm| !(norm.is_finite() && *norm > 0.0)) {
            return Err(problem("training.max_grad_norm", Problem::NotPositive(norm)));
        }
        for (field, value) in
            [("training.weight_decay", training.weight_decay), ("training.eps", training.eps)]
        {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value >= 0.0)) {
                return Err(problem(field, Problem::Negative(value)));
            }
        }
        for (field, rates) in [
            ("training.betas", training.betas.as_slice().as_flattened()),
            ("training.alpha", training.alpha.as_slice()),
        ] {
            if let Some(&rate) = rates.iter().find(|rate| !(0.0..1.0).contains(*rate)) {
                return Err(problem(field, Problem::NotARate(rate)));
            }
        }
        match training.optimizer {
            OptimizerName::AdamW if training.alpha.is_some() => Err(problem(
                "training.alpha",
                Problem::OtherOptimizer { owner: "rmsprop", optimizer: "adamw" },
            )),
            OptimizerName::RmsProp if training.betas.is_some() => Err(problem(
                "training.betas",
                Problem::OtherOptimizer { owner: "adamw", optimizer: "rmsprop" },
            )),
            _ if training.updates == Updates::Bf16Pure && self.model.dtype == Dtype::F32 => {
                Err(problem("training.updates", Problem::PureOnF32))
            }
            _ => Ok(()),
        }
    }

    fn check_schedule(&self) -> Result<(), RecipeProblem> {
        let training = &self.training;
        if !(training.beta.is_finite() && training.beta >= 0.0) {
            return Err(problem("training.beta", Problem::Negative(training.beta)));
        }
        let shortest = training.steps(1).min(training.steps(training.iterations));
        if training.warmup_steps > shortest {
            let (got, most) = (training.warmup_steps, shortest);
            return Err(problem(
                "training.warmup_steps",
                Problem::TooLarge { got, most, of: "optimizer steps of an iteration" },
            ));
        }
        if training.updates == Updates::Bf16Pure && training.save_dtype == Dtype::F32 {
            let with = "training.updates = \"bf16-pure\", which has no more than bf16 to save; write save_dtype = \"bf16\"";
            return Err(problem("training.save_dtype", Problem::Contradicts { with }));
        }
        if let Some(lora) = &training.lora {
            if lora.rank == 0 {
                return Err(problem("training.lora.rank", Problem::TooSmall { got: 0, least: 1 }));
            }
            if !(lora.alpha.is_finite() && lora.alpha > 0.0) {
                return Err(problem("training.lora.alpha", Problem::NotPositive(lora.alpha)));
            }
            if !(0.0..1.0).contains(&lora.dropout) {
                return Err(problem("training.lora.dropout", Problem::NotARate(lora.dropout)));
            }
            if lora.targets.is_empty() {
                let hint =
                    "name at least one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj";
                return Err(problem("training.lora.targets", Problem::Missing { hint }));
            }
        }
        Ok(())
    }

    fn check_guards(&self) -> Result<(), RecipeProblem> {
        let guards = &self.guards;
        for (field, value) in [
            ("guards.kl", guards.kl),
            ("guards.surprise", guards.surprise),
            ("guards.repetition", guards.repetition),
            ("guards.entropy", guards.entropy),
            ("guards.length", guards.length),
            ("guards.leak", guards.leak),
            ("guards.rejected", guards.rejected),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(problem(field, Problem::Negative(value)));
            }
        }
        if guards.length > 0.0 && guards.length < 1.0 {
            return Err(problem("guards.length", Problem::NotAFactor(guards.length)));
        }
        Ok(())
    }

    fn sampling_params(&self) -> Result<SamplingParams, RecipeProblem> {
        let section = &self.sampling;
        let params = SamplingParamsBuilder {
            max_new_tokens: section.max_new_tokens,
            temperature: section.temperature,
            top_p: section.top_p,
            top_k: section.top_k,
            stop: section.stop.clone().unwrap_or_default(),
            logps: false,
        };
        params.check().map_err(|source| {
            let field = match source {
                SamplingParamsError::MaxNewTokens => "sampling.max_new_tokens",
                SamplingParamsError::Temperature(_) => "sampling.temperature",
                SamplingParamsError::TopP(_) => "sampling.top_p",
                SamplingParamsError::TopK => "sampling.top_k",
                SamplingParamsError::EmptyStop(_) => "sampling.stop",
            };
            problem(field, Problem::Sampling(source))
        })
    }
}

fn problem(field: &'static str, problem: Problem) -> RecipeProblem {
    RecipeProblem { field, problem }
}

impl ValidRecipe {
    /// The same recipe with the base model and the data files found elsewhere, for example in a cache of downloads.
    ///
    /// # Errors
    ///
    /// What `base` or `file` refuses.
    pub fn with_inputs<E>(
        mut self,
        base: impl FnOnce(&Path) -> Result<PathBuf, E>,
        file: impl Fn(&Path) -> Result<PathBuf, E>,
    ) -> Result<Self, E> {
        self.recipe.model.base = base(&self.recipe.model.base)?;
        for one in &mut self.recipe.data.files {
            *one = file(one)?;
        }
        Ok(self)
    }

    /// The same recipe with a token budget, so that an interrupted run goes on in the same pieces, whatever memory is free by
    /// then: its own, else the one that the run in `out` began with, else `chosen`.
    #[must_use]
    pub fn with_token_budget(mut self, out: &Path, chosen: usize) -> Self {
        let path = RunDir::new(out).recipe();
        // A copy that cannot be read is refused when the run is opened.
        let kept = || parse(&path, &std::fs::read_to_string(&path).ok()?).ok()?.model.token_budget;
        let budget = &mut self.recipe.model.token_budget;
        *budget = budget.or_else(kept).or(Some(chosen));
        self
    }

    /// The loss and its reduction.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// How responses are sampled; `task_stops` are used where the recipe names no stop strings of its own.
    pub fn sampling_params(&self, task_stops: &[String]) -> Result<SamplingParams, SamplingParamsError> {
        let mut params = SamplingParamsBuilder::from(self.sampling.clone());
        if self.recipe.sampling.stop.is_none() {
            params.stop = task_stops.to_vec();
        }
        params.check()
    }
}

impl std::ops::Deref for ValidRecipe {
    type Target = Recipe;
    fn deref(&self) -> &Recipe {
        &self.recipe
    }
}
