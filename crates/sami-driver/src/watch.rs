//! Guards within a run.

use std::path::Path;

use sami_data::{PairReader, write_json};
use sami_policy::{ContrastPolicy, ContrastSet, PolicyProvider, Start};

use crate::error::{Doing, DriverError};
use crate::events::{Event, Observer};
use crate::files::figures;
use crate::guards::{GuardFigures, GuardReport, TextFigures};
use crate::recipe::GuardAction;
use crate::run::Driver;
use crate::train::contrast_set;

impl<P: PolicyProvider> Driver<P> {
    /// Holds the pairs of iteration η, sampled by π_{η−1}, against those of iteration 1, sampled by the base. `Some` where the
    /// run must end.
    pub(crate) fn watch_pairs(
        &self,
        iteration: usize,
        observer: &mut dyn Observer,
    ) -> Result<Option<GuardReport>, DriverError> {
        let (own, first) = (self.run.iteration(iteration), self.run.iteration(1));
        self.watch(iteration - 1, (own.root(), &own.pairs()), (first.root(), &first.pairs()), observer)
    }

    /// Holds π_η's answers to the held-out queries against the base's.
    pub(crate) fn watch_evaluation(
        &self,
        iteration: usize,
        observer: &mut dyn Observer,
    ) -> Result<Option<GuardReport>, DriverError> {
        let (own, first) = (self.evaluation_dir(iteration), self.evaluation_dir(0));
        let pairs = |dir: &Path| dir.join("pairs.jsonl");
        self.watch(iteration, (&own, &pairs(&own)), (&first, &pairs(&first)), observer)
    }

    fn watch(
        &self,
        model: usize,
        (dir, pairs): (&Path, &Path),
        (base_dir, base_pairs): (&Path, &Path),
        observer: &mut dyn Observer,
    ) -> Result<Option<GuardReport>, DriverError> {
        let guards = &self.recipe.guards;
        if guards.action == GuardAction::Off {
            return Ok(None);
        }
        let base = self.figures(0, base_dir, base_pairs)?;
        if model == 0 {
            return Ok(None);
        }
        let report = GuardReport::new(guards, base, self.figures(model, dir, pairs)?);
        if report.findings.is_empty() {
            return Ok(None);
        }
        observer.event(Event::Collapsed(&report));
        Ok(Some(report).filter(|_| guards.action == GuardAction::Stop))
    }

    /// The figures of a model's pairs, or those that an earlier process wrote beside them.
    fn figures(&self, model: usize, dir: &Path, pairs: &Path) -> Result<GuardFigures, DriverError> {
        let path = dir.join("guards.json");
        if let Some(figures) = figures(&path)? {
            return Ok(figures);
        }
        let (mut records, mut rejected, mut reader) = (Vec::new(), 0, PairReader::open(pairs)?);
        while records.len() < self.recipe.guards.queries
            && let Some(record) = reader.next().transpose()?
        {
            if record.is_kept() {
                records.push(record);
            } else if record.refusal.is_none() {
                // What the model was never asked says nothing of its text.
                rejected += 1;
            }
        }
        let sets = records.iter().map(contrast_set).collect::<Result<Vec<_>, _>>()?;
        let base = self.own_logps(&sets, Start::Base)?;
        let kl = match self.checkpoint(model) {
            None => 0.0,
            Some(checkpoint) => {
                let own = self.own_logps(&sets, Start::Checkpoint(&checkpoint))?;
                mean(own.iter().zip(&base).map(|(own, base)| own - base))
            }
        };
        let figures = GuardFigures {
            model,
            text: TextFigures::of(&records),
            base_logps: mean(base.iter().copied()),
            kl,
            rejected: rejected as f64 / (rejected + records.len()).max(1) as f64,
        };
        write_json(&path, &figures)?;
        Ok(figures)
    }

    /// Mean log-probability per token of every response under its own constitution, in nats.
    fn own_logps(&self, sets: &[ContrastSet], start: Start<'_>) -> Result<Vec<f64>, DriverError> {
        let mut logps = Vec::new();
        if sets.is_empty() {
            return Ok(logps);
        }
        let mut policy = self.provider.policy(start).map_err(|e| Doing::Open.failed(e))?;
        for chunk in sets.chunks(self.recipe.sampling.chunk) {
            let scored = policy.score(chunk).map_err(|e| Doing::Score.failed(e))?;
            for (set, scored) in chunk.iter().zip(&scored) {
                let own = set.targets().into_iter().enumerate();
                logps
                    .extend(own.map(|(r, c)| scored.sum_logps[[c, r]] / scored.tokens[[c, r]].max(1) as f64));
            }
        }
        Ok(logps)
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len();
    if n == 0 { 0.0 } else { values.sum::<f64>() / n as f64 }
}
