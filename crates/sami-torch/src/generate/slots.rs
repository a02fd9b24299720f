//! Sequences in their slots of the cache.

use std::collections::VecDeque;

use sami_policy::Sample;
use tch::Tensor;

use super::Sequence;
use crate::error::Result;
use crate::model::{LayerCache, Model};

pub(super) fn new_cache(model: &Model, slots: usize, longest: usize) -> Result<Vec<LayerCache>> {
    let config = &model.config;
    let shape =
        [slots as i64, config.num_key_value_heads as i64, longest.max(1) as i64, config.head_dim as i64];
    let zeros = || Tensor::f_zeros(shape, (model.kind(), model.device()));
    model.layers.iter().map(|_| Ok(LayerCache { keys: zeros()?, values: zeros()? })).collect()
}

/// Sends back to the waiting prompts those sequences whose newest token changes the frequencies of all
/// their tokens: they enter again with what they have, and their keys are computed anew.
pub(super) fn send_back(
    model: &Model,
    active: &mut Vec<Sequence>,
    cache: &mut [LayerCache],
    waiting: &mut VecDeque<Sequence>,
) -> Result<()> {
    let mut slot = 0;
    while slot < active.len() {
        let sequence = &active[slot];
        let frequencies = model.rope.frequencies(sequence.prompt.len() + sequence.generated.len());
        if frequencies == sequence.frequencies {
            slot += 1;
            continue;
        }
        let sequence = vacate(slot, active, cache)?;
        waiting.push_front(Sequence { frequencies, shared: Vec::new(), ..sequence });
    }
    Ok(())
}

/// Takes finished sequences out.
pub(super) fn retire(
    active: &mut Vec<Sequence>,
    cache: &mut [LayerCache],
    samples: &mut Vec<(usize, Sample)>,
) -> Result<()> {
    let mut slot = 0;
    while slot < active.len() {
        let Some(sample) = active[slot].done.take() else {
            slot += 1;
            continue;
        };
        samples.push((active[slot].request, sample));
        vacate(slot, active, cache)?;
    }
    Ok(())
}

/// Takes a sequence out; the last active one moves into its slot, so that the first slots are the ones
/// in use.
fn vacate(slot: usize, active: &mut Vec<Sequence>, cache: &mut [LayerCache]) -> Result<Sequence> {
    let last = active.len() - 1;
    if slot != last {
        let used = active[last].position() as i64;
        for store in cache.iter().flat_map(|layer| [&layer.keys, &layer.values]) {
            let part = |slot: usize| store.f_select(0, slot as i64)?.f_narrow(1, 0, used);
            part(slot)?.f_copy_(&part(last)?)?;
        }
    }
    Ok(active.swap_remove(slot))
}
