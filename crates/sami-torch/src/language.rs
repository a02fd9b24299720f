//! The plain language-model objective, −log π(token | tokens before it), through the same layer-wise backward.

use crate::contrast::{batches, check_sequence};
use crate::error::{Error, Result};
use crate::gradients::Gradients;
use crate::head::check_logp;
use crate::model::Model;
use crate::packing::{PackedRow, Sequence};
use crate::pass::{Keep, Pass, Plan, Routes};

/// A text for [`crate::TorchPolicy::lm_step`], as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LmExample {
    /// The whole text, special tokens included.
    pub token_ids: Vec<u32>,
    /// The first token that is counted, at least 1: `token_ids[loss_from..]` are predicted from everything before them.
    pub loss_from: usize,
}

/// The mean loss over counted tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LmLoss {
    /// −1/tokens Σ log π(token | tokens before it), in nats.
    pub nats: f64,
    /// Counted tokens.
    pub tokens: usize,
}

/// The loss; with `grads`, its gradient is added to them.
pub(crate) fn language_model(
    model: &Model,
    plan: Plan<'_>,
    examples: &[LmExample],
    mut grads: Option<&mut Gradients>,
) -> Result<LmLoss> {
    let mut rows = Vec::with_capacity(examples.len());
    let mut tokens = 0;
    for (index, LmExample { token_ids, loss_from }) in examples.iter().enumerate() {
        let what = || format!("text {index}");
        if *loss_from == 0 || *loss_from >= token_ids.len() {
            return Err(Error::NoTokens { what: what() });
        }
        check_sequence(token_ids, model, what)?;
        tokens += token_ids.len() - loss_from;
        let frequencies = model.rope.frequencies(token_ids.len());
        let sequence = Sequence { ids: token_ids.clone(), start: *loss_from, frequencies };
        rows.push(PackedRow::new(&[&sequence]));
    }
    let keep = match (&grads, plan.recompute) {
        (None, _) => Keep::Nothing,
        (Some(_), true) => Keep::Inputs,
        (Some(_), false) => Keep::Graphs,
    };
    let mut sum = 0.0;
    for batch in batches(&rows, PackedRow::len, plan.token_budget) {
        let pass = Pass::run(model, plan, &batch.iter().collect::<Vec<_>>(), keep, Routes::new())?;
        let logps = pass.logps()?;
        for &logp in &logps {
            check_logp(logp, || "a token's log-probability".into())?;
        }
        let total: f64 = logps.iter().map(|&logp| f64::from(logp)).sum();
        sum -= total;
        if let Some(grads) = grads.as_deref_mut() {
            let weights = vec![(-1.0 / tokens as f64) as f32; logps.len()];
            pass.backward(&weights, None, grads)?;
        }
    }
    Ok(LmLoss { nats: if tokens == 0 { 0.0 } else { sum / tokens as f64 }, tokens })
}
