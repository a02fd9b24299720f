//! Generation: a fixed number of slots, each holding one sequence's keys and values. A sequence that ends leaves its
//! slot to the next waiting prompt, so short responses never wait for long ones. Prompts wait in the order of their tokens, so
//! those that begin alike follow each other, and what they share goes through the layers once.

mod finish;
mod prefill;

use std::collections::{BTreeSet, VecDeque};

use rayon::prelude::*;
use sami_policy::{Sample, SamplingParams, StreamKey};
use tch::{Kind, Tensor, no_grad};

use crate::contrast::check_sequence;
use crate::crew::Crew;
use crate::error::{Error, Result};
use crate::group::Group;
use crate::head;
use crate::model::{LayerCache, Model, Step};
use crate::packing::PackedRow;
use crate::sampling::{Draws, choose, logp};
use crate::tokenizer::Tokenizer;
use finish::finished;
use prefill::{Prefixes, prefill, shared_lengths};

/// One prompt to continue, as tokens.
pub(crate) struct Prompt {
    pub(crate) ids: Vec<u32>,
    pub(crate) stream: StreamKey,
}

/// Weights of at most so many bytes are read from each core's own cache: threads then generate side by side, each for its share of
/// the prompts. Larger ones are read once for all of them.
const CACHED_WEIGHTS: usize = 1 << 24;

/// Samples one response per prompt, with `slots` sequences at once.
pub(crate) fn generate(
    model: &Model,
    crew: &Crew,
    tokenizer: &Tokenizer,
    (slots, token_budget): (usize, usize),
    prompts: Vec<Prompt>,
    params: &SamplingParams,
) -> Result<Vec<Sample>> {
    let number = prompts.len();
    let mut prompts: Vec<(usize, Prompt)> = prompts.into_iter().enumerate().collect();
    let lots = if model.bytes() <= CACHED_WEIGHTS { crew.threads() } else { 1 };
    // In the order of their tokens, so that those that begin alike stay together.
    prompts.sort_by(|(a, one), (b, other)| one.ids.cmp(&other.ids).then(a.cmp(b)));
    let size = number.div_ceil(lots).max(1);
    let mut work = Vec::with_capacity(lots);
    while !prompts.is_empty() {
        let rest = prompts.split_off(size.min(prompts.len()));
        work.push((model.share()?, std::mem::replace(&mut prompts, rest)));
    }
    let slots = slots.div_ceil(work.len().max(1));
    let found = crew
        .map(work, |(model, prompts)| one_lot(&model, tokenizer, (slots, token_budget), prompts, params))?;
    let mut samples: Vec<_> = found.into_iter().flatten().collect();
    samples.sort_by_key(|(index, _)| *index);
    Ok(samples.into_iter().map(|(_, sample)| sample).collect())
}

/// One response per prompt, with the prompt's number. Prompts come in the order of their tokens.
fn one_lot(
    model: &Model,
    tokenizer: &Tokenizer,
    (slots, token_budget): (usize, usize),
    prompts: Vec<(usize, Prompt)>,
    params: &SamplingParams,
) -> Result<Vec<(usize, Sample)>> {
    let number = prompts.len();
    let mut waiting = prompts
        .into_iter()
        .map(|(index, prompt)| Sequence::new(index, prompt, model, params))
        .collect::<Result<Vec<_>>>()?;
    let shared = shared_lengths(&waiting.iter().map(|sequence| &sequence.prompt[..]).collect::<Vec<_>>());
    for (sequence, shared) in waiting.iter_mut().zip(shared) {
        sequence.shared = shared;
    }
    let mut waiting = VecDeque::from(waiting);
    let mut prefixes = Prefixes::default();
    let longest = waiting.iter().map(Sequence::longest).max().unwrap_or(0);
    let slots = slots.clamp(1, number.max(1));
    let mut samples = Vec::with_capacity(number);
    let mut cache = new_cache(model, slots, longest)?;
    let mut active: Vec<Sequence> = Vec::with_capacity(slots);
    while !(active.is_empty() && waiting.is_empty()) {
        let entering = admit(&mut waiting, slots - active.len(), token_budget);
        let logits = if entering.is_empty() {
            decode(model, &active, &mut cache)?
        } else {
            let first_slot = active.len();
            let logits = prefill(model, &mut prefixes, &entering, first_slot, &cache)?;
            active.extend(entering);
            // Only the sequences that just came in have new logits.
            advance(&logits, &mut active[first_slot..], tokenizer, params)?;
            retire(&mut active, &mut cache, &mut samples)?;
            continue;
        };
        advance(&logits, &mut active, tokenizer, params)?;
        retire(&mut active, &mut cache, &mut samples)?;
    }
    Ok(samples)
}

/// One request on its way.
struct Sequence {
    request: usize,
    prompt: Vec<u32>,
    /// Lengths of the beginnings that it shares with other requests, ascending; shorter than the prompt.
    shared: Vec<usize>,
    generated: Vec<u32>,
    logps: Vec<f32>,
    draws: Draws,
    limit: usize,
    done: Option<Sample>,
}

impl Sequence {
    fn new(index: usize, prompt: Prompt, model: &Model, params: &SamplingParams) -> Result<Self> {
        let what = format!("prompt {index}");
        let Prompt { ids: prompt, stream } = prompt;
        if prompt.is_empty() {
            return Err(Error::NoTokens { what });
        }
        check_sequence(&prompt, model, || what.clone())?;
        let limit = params.max_new_tokens;
        let tokens = prompt.len() + limit;
        if tokens > model.config.max_position_embeddings {
            let what = format!("{what} with {limit} new tokens");
            return Err(Error::TooLong { what, tokens, limit: model.config.max_position_embeddings });
        }
        let draws = Draws::new(stream);
        Ok(Self {
            request: index,
            prompt,
            shared: Vec::new(),
            generated: Vec::new(),
            logps: Vec::new(),
            draws,
            limit,
            done: None,
        })
    }

    /// Places that the cache needs: the last token is never fed.
    fn longest(&self) -> usize {
        self.prompt.len() + self.limit - 1
    }

    /// Logical position of the token that is fed next.
    fn position(&self) -> usize {
        self.prompt.len() + self.generated.len() - 1
    }
}

fn new_cache(model: &Model, slots: usize, longest: usize) -> Result<Vec<LayerCache>> {
    let config = &model.config;
    let shape =
        [slots as i64, config.num_key_value_heads as i64, longest.max(1) as i64, config.head_dim as i64];
    let zeros = || Tensor::f_zeros(shape, (model.kind(), model.device()));
    model.layers.iter().map(|_| Ok(LayerCache { keys: zeros()?, values: zeros()? })).collect()
}

/// Takes waiting prompts into free slots, at most a budget of prompt tokens at once.
fn admit(waiting: &mut VecDeque<Sequence>, free: usize, token_budget: usize) -> Vec<Sequence> {
    let (mut entering, mut tokens) = (Vec::new(), 0);
    while entering.len() < free {
        let Some(next) = waiting.front() else { break };
        tokens += next.prompt.len() - next.shared.last().copied().unwrap_or(0);
        if !entering.is_empty() && tokens > token_budget {
            break;
        }
        entering.extend(waiting.pop_front());
    }
    entering
}

/// Feeds every active sequence its newest token; returns logits [active, vocab].
fn decode(model: &Model, active: &[Sequence], cache: &mut [LayerCache]) -> Result<Tensor> {
    let device = model.device();
    let tensor =
        |values: Vec<i64>| -> Result<Tensor> { Ok(Tensor::f_from_slice(&values)?.f_to_device(device)?) };
    let ids = tensor(active.iter().filter_map(|s| s.generated.last()).map(|&id| i64::from(id)).collect())?;
    let positions: Vec<i64> = active.iter().map(|s| s.position() as i64).collect();
    let keys = positions.iter().max().map_or(0, |last| last + 1);
    let places = tensor(positions)?;
    let slots = tensor((0..active.len() as i64).collect())?;
    let distance =
        places.f_unsqueeze(1)?.f_sub(&Tensor::f_arange(keys, (Kind::Int64, device))?.f_unsqueeze(0)?)?;
    let bias = |hidden: &Tensor| {
        Tensor::f_zeros(distance.size(), (model.kind(), device))?.f_masked_fill(hidden, f64::NEG_INFINITY)
    };
    let ahead = distance.f_lt(0)?;
    let windows: BTreeSet<usize> = model.config.windows.iter().copied().flatten().collect();
    let window_bias = windows
        .into_iter()
        .map(|window| Ok((window, bias(&ahead.f_logical_or(&distance.f_ge(window as i64)?)?)?)))
        .collect::<Result<Vec<_>>>()?;
    let step = Step {
        rotation: &model.rope.rotation(&places)?,
        batch: active.len() as i64,
        places: &places,
        slots: &slots,
        bias: &bias(&ahead)?,
        window_bias: &window_bias,
    };
    let mut x = model.embedded(&ids)?;
    for (layer, cache) in model.layers.iter().zip(cache) {
        x = layer.decode(&x, &step, cache)?;
    }
    logits(model, &x)
}

/// Logits after every token of one prompt, [tokens, vocab].
pub(crate) fn prompt_logits(model: &Model, ids: &[u32]) -> Result<Tensor> {
    no_grad(|| {
        let group = Group::new(model, &[&PackedRow::continuations(&[], &[ids])], None)?;
        let mut x = model.embedded(&group.ids)?;
        for layer in &model.layers {
            x = layer.forward(&x, &group.geometry, false, &mut None)?;
        }
        logits(model, &x)
    })
}

fn logits(model: &Model, x: &Tensor) -> Result<Tensor> {
    head::logits(&model.final_norm(x, model.norm())?, model.head())
}

/// Chooses the next token of each sequence, and ends those that are over.
fn advance(
    logits: &Tensor,
    sequences: &mut [Sequence],
    tokenizer: &Tokenizer,
    params: &SamplingParams,
) -> Result<()> {
    let vocab = logits.size2()?.1 as usize;
    let values = Vec::<f32>::try_from(logits.f_to_device(tch::Device::Cpu)?.f_contiguous()?.f_view([-1])?)?;
    sequences.par_iter_mut().zip(values.par_chunks_exact(vocab)).try_for_each(|(sequence, logits)| {
        head::check_logits(logits, || {
            format!("a logit of prompt {} after {} tokens", sequence.request, sequence.generated.len())
        })?;
        let token = choose(logits, params, &mut sequence.draws);
        sequence.generated.push(token);
        if params.logps {
            sequence.logps.push(logp(logits, token));
        }
        sequence.done = finished(sequence, tokenizer, params)?;
        Ok(())
    })
}

/// Takes finished sequences out; the last active sequence moves into the freed slot, so that the first slots are the ones in use.
fn retire(
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
        let last = active.len() - 1;
        if slot != last {
            let used = active[last].position() as i64;
            for store in cache.iter().flat_map(|layer| [&layer.keys, &layer.values]) {
                let part = |slot: usize| store.f_select(0, slot as i64)?.f_narrow(1, 0, used);
                part(slot)?.f_copy_(&part(last)?)?;
            }
        }
        active.swap_remove(slot);
    }
    Ok(())
}
