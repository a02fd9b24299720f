//! Generation: a fixed number of slots, each holding one sequence's keys and values. A sequence that ends leaves its
//! slot to the next waiting prompt, so short responses never wait for long ones. Prompts wait in the order of their tokens, so
//! those that begin alike follow each other, and what they share goes through the layers once.
//!
//! A token is drawn from what the model says of the sequence so far. Where its length decides about the
//! frequencies of all its tokens (dynamic NTK, LongRoPE), a sequence that grows past a switch goes
//! through the layers again.

mod finish;
mod prefill;
mod slots;

use std::collections::{BTreeSet, VecDeque};

use rayon::prelude::*;
use sami_policy::{Sample, SamplingParams, StreamKey};
use tch::{Kind, Tensor, no_grad};

use crate::contrast::check_sequence;
use crate::crew::Crew;
use crate::error::{Error, Result};
use crate::group::Group;
use crate::head;
use crate::model::{Frequencies, LayerCache, Model, Step};
use crate::packing::PackedRow;
use crate::sampling::{Draws, choose, logp};
use crate::tokenizer::Tokenizer;
use finish::finished;
use prefill::{Prefixes, prefill, shared_lengths};
use slots::{new_cache, retire, send_back};

/// One prompt to continue, as tokens.
pub(crate) struct Prompt {
    pub(crate) ids: Vec<u32>,
    pub(crate) stream: StreamKey,
}

impl Prompt {
    /// Refuses a prompt that the model cannot continue by so many tokens.
    pub(crate) fn check(&self, model: &Model, new_tokens: usize) -> Result<()> {
        let what = || "the prompt".to_owned();
        if self.ids.is_empty() {
            return Err(Error::NoTokens { what: what() });
        }
        check_sequence(&self.ids, model, what)?;
        let (tokens, limit) = (self.ids.len() + new_tokens, model.config.longest_sequence());
        if tokens > limit {
            let what = format!("the prompt with {new_tokens} new tokens");
            return Err(Error::TooLong { what, tokens, limit });
        }
        Ok(())
    }
}

/// Weights of at most so many bytes are read from each core's own cache: threads then generate side by side, each for its share of
/// the prompts. Larger ones are read once for all of them.
const CACHED_WEIGHTS: usize = 1 << 24;

/// Samples one response per checked prompt, with `slots` sequences at once.
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
    // In the order of their tokens, so that those that begin alike stay together, as far as they have
    // the same frequencies.
    let frequencies = |prompt: &Prompt| model.rope.frequencies(prompt.ids.len());
    prompts.sort_by(|(a, one), (b, other)| {
        (frequencies(one), &one.ids, a).cmp(&(frequencies(other), &other.ids, b))
    });
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

/// One response per prompt, with the prompt's number. Prompts come in the order of their frequencies
/// and tokens.
fn one_lot(
    model: &Model,
    tokenizer: &Tokenizer,
    (slots, token_budget): (usize, usize),
    prompts: Vec<(usize, Prompt)>,
    params: &SamplingParams,
) -> Result<Vec<(usize, Sample)>> {
    let number = prompts.len();
    let mut waiting: Vec<Sequence> =
        prompts.into_iter().map(|(index, prompt)| Sequence::new(index, prompt, model, params)).collect();
    for alike in waiting.chunk_by_mut(|a, b| a.frequencies == b.frequencies) {
        let shared = shared_lengths(&alike.iter().map(|sequence| &sequence.prompt[..]).collect::<Vec<_>>());
        for (sequence, shared) in alike.iter_mut().zip(shared) {
            sequence.shared = shared;
        }
    }
    let mut waiting = VecDeque::from(waiting);
    let mut prefixes = Prefixes::default();
    let longest = waiting.iter().map(Sequence::longest).max().unwrap_or(0);
    let slots = slots.clamp(1, number.max(1));
    let mut samples = Vec::with_capacity(number);
    let mut cache = new_cache(model, slots, longest)?;
    let mut active: Vec<Sequence> = Vec::with_capacity(slots);
    while !(active.is_empty() && waiting.is_empty()) {
        send_back(model, &mut active, &mut cache, &mut waiting)?;
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
    /// Those of its cached keys.
    frequencies: Frequencies,
    logps: Vec<f32>,
    draws: Draws,
    limit: usize,
    done: Option<Sample>,
}

impl Sequence {
    fn new(index: usize, prompt: Prompt, model: &Model, params: &SamplingParams) -> Self {
        Self {
            request: index,
            frequencies: model.rope.frequencies(prompt.ids.len()),
            prompt: prompt.ids,
            shared: Vec::new(),
            generated: Vec::new(),
            logps: Vec::new(),
            draws: Draws::new(prompt.stream),
            limit: params.max_new_tokens,
            done: None,
        }
    }

    /// All its tokens so far.
    fn tokens(&self) -> Vec<u32> {
        [self.prompt.as_slice(), &self.generated].concat()
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

/// Takes waiting prompts into free slots, at most a budget of prompt tokens at once.
fn admit(waiting: &mut VecDeque<Sequence>, free: usize, token_budget: usize) -> Vec<Sequence> {
    let (mut entering, mut tokens) = (Vec::new(), 0);
    while entering.len() < free {
        let Some(next) = waiting.front() else { break };
        let shared = next.shared.last().copied().unwrap_or(0);
        tokens += next.prompt.len() + next.generated.len() - shared;
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
    let frequencies: Vec<Frequencies> = active.iter().map(|s| s.frequencies).collect();
    let rotation = model.rope.rotation(&positions, &frequencies)?;
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
        rotation: &rotation,
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
        let row = PackedRow::continuations(&[], &[ids], model.rope.frequencies(ids.len()));
        let group = Group::new(model, &[&row], None)?;
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
