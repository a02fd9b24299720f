//! Before a run: is the connection between these principles and this model strong enough to amplify?
//!
//! SAMI raises an association that pretraining has left behind; where there is none, there is nothing to raise (the paper's own
//! precondition, section 3). A probe asks some fifty queries and reports three things.
//!
//! - **Mutual information** of the untrained model, over all constitutions and by principle ([`crate::evaluation::Evaluation`]).
//! - **The noise floor**: the same estimate between *rewordings of one constitution* (other order of articles, other variants).
//!   Whatever it reads is sensitivity to wording, which no training should raise. Texts that are alike to the letter
//!   would read exactly 0 and say nothing.
//! - **The gradient's signal to noise** in a batch ([`GradientSignal`]): whether the first step goes anywhere.

use std::fmt;

use sami_core::{Estimate, MiAccumulator, Objective, mutual_information_with_targets};
use sami_data::{Candidate, Finish, PairResponse, Rejection, RejectionCounts, ResponseFilter, Sampled};
use sami_policy::{
    ContrastPolicy, ContrastResponse, ContrastSet, FinishReason, Refusal, RefusalCause, Sample,
    SampleRequest, Sampler, SamplingParams, SetLogps, StreamKey, TrainablePolicy,
};
use serde::{Deserialize, Serialize};

use crate::evaluation::PrincipleInformation;
use crate::principles::principles;
use crate::statistics::{Z_95, estimate};

/// Mutual information below this is too weak to count on, in nats. From the sandbox (docs/sandbox.md): where the base model's was
/// .02, three iterations ended at win rates of 48 to 56 %; where it was .10, at 74 %; and the weakest that the paper amplified
/// (mistral-7b on TL;DR, section 6.1) was .10. This is half-way between in ratio.
pub const AMPLIFIABLE: f64 = 0.04;

/// One query under several constitutions (or rewordings of one), as prompts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts {
    /// The query's id.
    pub id: String,
    /// For sampling, one per constitution.
    pub sampling: Vec<String>,
    /// For scoring, one per constitution.
    pub training: Vec<String>,
}

/// Contrast sets, and what was left out on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Sets that the filters kept.
    pub sets: Vec<ContrastSet>,
    /// Why others were not.
    pub rejected: RejectionCounts,
    /// Queries that the model, or a server, refused, and its words.
    pub refused: Vec<RefusedQuery>,
}

/// A query that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedQuery {
    /// Its id.
    pub id: String,
    /// Why.
    pub refused: String,
}

/// Lets the model answer each prompt once. Responses are treated as in training: the task's edits, and its reasons to leave a
/// set out. `number` keeps the draws of several calls apart.
///
/// # Errors
///
/// What concerns all requests; a refused one is counted.
pub fn ask<S: Sampler>(
    sampler: &mut S,
    prompts: &[Prompts],
    filter: &ResponseFilter,
    params: &SamplingParams,
    (seed, number): (u64, u64),
) -> Result<Asked, S::Error> {
    let requests = (0..).zip(prompts).flat_map(|(query, one)| {
        (0..).zip(&one.sampling).map(move |(constitution, prompt)| SampleRequest {
            prompt: prompt.clone(),
            stream: StreamKey::new(seed, number, query, constitution),
        })
    });
    let samples = sampler.sample(&requests.collect::<Vec<_>>(), params)?;
    let mut samples = samples.into_iter();
    let mut asked = Asked::default();
    for one in prompts {
        let given = samples.by_ref().take(one.sampling.len()).enumerate();
        let (mut responses, mut reasons, mut refused) = (Vec::new(), Vec::new(), None);
        for (constitution, sample) in given {
            match sample {
                // The paper's code masks the end of a response.
                Ok(sample) => responses.push(filter.response(constitution, sampled(sample), false)),
                Err(refusal) => {
                    reasons.push(rejection(refusal.cause));
                    refused = refused.or(Some(refusal));
                }
            }
        }
        reasons.extend(filter.reject(&responses.iter().map(Candidate::from).collect::<Vec<_>>()));
        reasons.sort_unstable();
        reasons.dedup();
        if reasons.is_empty() {
            let responses =
                responses.into_iter().map(|PairResponse { constitution, text, token_ids, .. }| {
                    ContrastResponse { text, token_ids, constitution }
                });
            match ContrastSet::new(one.id.clone(), one.training.clone(), responses.collect()) {
                Ok(set) => match sampler.set_refusal(&set)? {
                    None => asked.sets.push(set),
                    Some(refusal) => {
                        reasons.push(Rejection::SetRefused);
                        refused = Some(refusal);
                    }
                },
                Err(_) => reasons.push(Rejection::Empty),
            }
        }
        asked.refused.extend(
            refused.map(|Refusal { message: refused, .. }| RefusedQuery { id: one.id.clone(), refused }),
        );
        asked.rejected.add(&reasons);
    }
    Ok(asked)
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

impl Asked {
    /// Adds what another call came to.
    pub fn extend(&mut self, other: Self) {
        self.sets.extend(other.sets);
        self.refused.extend(other.refused);
        for (reason, count) in other.rejected.iter() {
            (0..count).for_each(|_| self.rejected.add(std::slice::from_ref(reason)));
        }
    }
}

/// What some sets say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Information {
    /// Mutual information over constitutions, in nats.
    pub all: Estimate,
    /// The same about one principle's side at a time.
    pub principles: Vec<PrincipleInformation>,
}

/// Mutual information in some sets whose constitutions have the ids `ids`, the same for every set; `None` of nothing.
///
/// # Errors
///
/// What the policy or the objective refuses.
pub fn information<P: ContrastPolicy>(
    policy: &mut P,
    sets: &[ContrastSet],
    ids: &[&str],
) -> Result<Option<Information>, P::Error> {
    let mut all = MiAccumulator::new();
    let mut by_principle: Vec<_> =
        principles(ids.iter().copied()).into_iter().map(|principle| (principle, Vec::new())).collect();
    for (set, logps) in sets.iter().zip(policy.score(sets)?) {
        let targets = set.targets();
        all.push(&mutual_information_with_targets(logps.sum_logps.view(), &targets)?);
        let sums: Vec<Vec<f64>> = logps.sum_logps.rows().into_iter().map(|row| row.to_vec()).collect();
        for (principle, figures) in &mut by_principle {
            figures.extend(principle.information(&sums, &targets));
        }
    }
    let principles = by_principle.into_iter().filter_map(|(principle, figures)| {
        let queries = figures.len();
        Some(PrincipleInformation { name: principle.name, mi: estimate(figures)?, queries })
    });
    let principles = principles.collect();
    Ok(all.finish().map(|estimate| Information { all: estimate.constitutions, principles }))
}

/// Signal and noise of the loss's gradient over queries. With g_i the gradient of query i, μ = E g and σ² = E‖g − μ‖²,
/// E‖g_i‖² = ‖μ‖² + σ² and E‖ḡ_n‖² = ‖μ‖² + σ²/n; both norms are measured, and the two equations solved (McCandlish et al.,
/// arXiv 1812.06162, appendix A). No gradient is ever stored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradientSignal {
    /// Estimate of ‖μ‖². Below 0 when noise hides the signal.
    pub signal_squared: f64,
    /// Estimate of σ².
    pub noise_squared: f64,
    /// Queries.
    pub queries: usize,
}

impl GradientSignal {
    /// Measures it: one backward pass per query and one over all of them. Weights stay as they are; the optimizer's state does
    /// not, so the policy should not be trained on afterwards. `None` for fewer than two sets.
    ///
    /// # Errors
    ///
    /// What the policy or the objective refuses.
    pub fn measure<P: TrainablePolicy>(
        policy: &mut P,
        sets: &[ContrastSet],
        objective: &Objective,
        mut done: impl FnMut(usize),
    ) -> Result<Option<Self>, P::Error> {
        let n = sets.len() as f64;
        if sets.len() < 2 {
            return Ok(None);
        }
        let mut single = 0.0;
        for (index, set) in sets.iter().enumerate() {
            single += norm(policy, std::slice::from_ref(set), objective)?.powi(2) / n;
            done(index + 1);
        }
        let all = norm(policy, sets, objective)?.powi(2);
        let signal_squared = (n * all - single) / (n - 1.0);
        let noise_squared = (single - all) * n / (n - 1.0);
        Ok(Some(Self { signal_squared, noise_squared, queries: sets.len() }))
    }

    /// ‖μ‖ over the noise of a batch's mean, ‖μ‖ √B / σ; 0 where no signal is seen.
    pub fn ratio(&self, batch_size: usize) -> f64 {
        if self.noise_squared <= 0.0 {
            return if self.signal_squared > 0.0 { f64::INFINITY } else { 0.0 };
        }
        (self.signal_squared.max(0.0) * batch_size as f64 / self.noise_squared).sqrt()
    }
}

/// Norm of the gradient of the mean loss over some sets.
fn norm<P: TrainablePolicy>(
    policy: &mut P,
    sets: &[ContrastSet],
    objective: &Objective,
) -> Result<f64, P::Error> {
    let n = sets.len() as f64;
    policy.contrast_step(sets, &mut |index, logps: &SetLogps| {
        let matrix = logps.reduce(objective.reduction());
        let step = objective.loss_and_grad_with_targets(matrix.view(), &sets[index].targets())?;
        Ok((logps.gradient_in_sums(objective.reduction(), step.grad) / n).into())
    })?;
    // A step of length 0: it reads the norm, and clears what was accumulated.
    Ok(policy.optimizer_step(0.0)?.grad_norm)
}

/// What the figures mean for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// Even the lower end of the interval lies above [`AMPLIFIABLE`] and above the floor: a run should work.
    Strong,
    /// Above the floor, but not surely above [`AMPLIFIABLE`]: a run may work, slowly.
    Weak,
    /// Even the upper end of the interval lies below [`AMPLIFIABLE`], or the estimate does not rise above the floor.
    Absent,
    /// The interval holds both: more queries are needed.
    Undecided,
}

impl Connection {
    /// Decides from the untrained model's mutual information and the floor's.
    pub fn decide(mi: &Estimate, floor: Option<&Estimate>) -> Self {
        let (Some((low, high)), floor) = (
            mi.interval(Z_95),
            floor.map_or(0.0, |floor| floor.interval(Z_95).map_or(floor.mean, |(_, high)| high).max(0.0)),
        ) else {
            return Self::Undecided;
        };
        if low > AMPLIFIABLE.max(floor) {
            Self::Strong
        } else if high < AMPLIFIABLE || high <= floor {
            Self::Absent
        } else if low > floor {
            Self::Weak
        } else {
            Self::Undecided
        }
    }

    /// What to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Strong => {
                "the model's responses already depend on the constitution: training can amplify it"
            }
            Self::Weak => {
                "the model's responses depend on the constitution, but weakly: expect slow gains, and consider clearer \
                 principles or a stronger base"
            }
            Self::Absent => {
                "the model's responses hardly depend on the constitution: training has nothing to amplify. Try clearer \
                 principles, a prompt with an example, or a stronger base"
            }
            Self::Undecided => "too few queries to tell the connection from noise: ask more",
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strong => "strong",
            Self::Weak => "weak",
            Self::Absent => "absent",
            Self::Undecided => "undecided",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(mean: f64, error: f64) -> Estimate {
        Estimate { mean, standard_error: Some(error) }
    }

    #[test]
    fn thresholds_sort_what_has_been_seen() {
        let floor = figure(0.0005, 0.0005);
        let decide = |mean, error| Connection::decide(&figure(mean, error), Some(&floor));
        // The sandbox's wirings (60, 30, 10 heeding authors in 100) and the paper's weakest, with errors as of a few hundred queries.
        assert_eq!(decide(0.40, 0.03), Connection::Strong);
        assert_eq!(decide(0.09, 0.02), Connection::Strong);
        assert_eq!(decide(0.10, 0.03), Connection::Strong);
        assert_eq!(decide(0.02, 0.005), Connection::Absent);
        assert_eq!(decide(0.03, 0.01), Connection::Weak);
        assert_eq!(decide(0.03, 0.05), Connection::Undecided);
        // Large, but so is what wording alone does.
        let loud = figure(0.2, 0.02);
        assert_eq!(Connection::decide(&figure(0.15, 0.03), Some(&loud)), Connection::Absent);
        assert_eq!(Connection::decide(&figure(0.25, 0.03), Some(&loud)), Connection::Undecided);
        let single = Estimate { mean: 0.5, standard_error: None };
        assert_eq!(Connection::decide(&single, None), Connection::Undecided);
    }
}
