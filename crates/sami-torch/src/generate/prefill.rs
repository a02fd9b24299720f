//! Prompts through the layers, what several of them share only once.

use std::rc::Rc;

use tch::Tensor;

use super::{Sequence, logits};
use crate::error::Result;
use crate::group::Group;
use crate::model::{Frequencies, KeysValues, LayerCache, Model};
use crate::packing::PackedRow;

/// A shared beginning is worth keeping apart from so many tokens on.
const WORTHWHILE: usize = 16;

/// The beginning of some prompts, gone through the layers.
struct Prefix {
    ids: Vec<u32>,
    frequencies: Frequencies,
    layers: Vec<KeysValues>,
}

/// The beginnings of the prompt that went in last, each continuing the one before. Prompts come in the order of their tokens, so no
/// other is needed again.
#[derive(Default)]
pub(super) struct Prefixes {
    path: Vec<Rc<Prefix>>,
}

impl Prefixes {
    /// The longest shared beginning of a prompt; computes what is missing on the way to it.
    fn of(&mut self, model: &Model, sequence: &Sequence) -> Result<Option<Rc<Prefix>>> {
        let begins = |prefix: &Prefix| {
            prefix.frequencies == sequence.frequencies
                && sequence.shared.contains(&prefix.ids.len())
                && sequence.prompt.starts_with(&prefix.ids)
        };
        while self.path.last().is_some_and(|prefix| !begins(prefix)) {
            self.path.pop();
        }
        let known = self.path.last().map_or(0, |prefix| prefix.ids.len());
        for &length in sequence.shared.iter().filter(|&&length| length > known) {
            let before = self.path.last().cloned();
            let start = before.as_ref().map_or(0, |before| before.ids.len());
            let rest = &sequence.prompt[start..length];
            let frequencies = sequence.frequencies;
            let row = Continued { prefix: before.clone(), rests: vec![rest], frequencies };
            let own = extend(model, &[row])?.layers;
            let layers = match &before {
                Some(before) => {
                    before.layers.iter().zip(&own).map(|(a, b)| joined(&[a, b])).collect::<Result<_>>()?
                }
                None => own,
            };
            self.path.push(Rc::new(Prefix { ids: sequence.prompt[..length].to_vec(), frequencies, layers }));
        }
        Ok(self.path.last().cloned())
    }
}

fn joined(parts: &[&KeysValues]) -> Result<KeysValues> {
    let cat = |pick: fn(&KeysValues) -> &Tensor| {
        Tensor::f_cat(&parts.iter().map(|part| pick(part)).collect::<Vec<_>>(), 0)
    };
    Ok(KeysValues { keys: cat(|part| &part.keys)?, values: cat(|part| &part.values)? })
}

/// Continuations of prefixes that have gone through the layers.
struct Extended {
    group: Group,
    /// Last layer's output at the end of every segment, row by row, `[segments, hidden]`.
    ends: Tensor,
    /// Keys and values of the segment tokens.
    layers: Vec<KeysValues>,
}

/// What follows a prefix, once for each prompt.
struct Continued<'a> {
    prefix: Option<Rc<Prefix>>,
    rests: Vec<&'a [u32]>,
    frequencies: Frequencies,
}

fn extend(model: &Model, rows: &[Continued<'_>]) -> Result<Extended> {
    let packed: Vec<PackedRow> = rows
        .iter()
        .map(|Continued { prefix, rests, frequencies }| {
            let prefix = prefix.as_ref().map_or(&[][..], |prefix| &prefix.ids);
            PackedRow::continuations(prefix, rests, *frequencies)
        })
        .collect();
    let group = Group::new(model, &packed.iter().collect::<Vec<_>>(), None)?;
    let geometry = &group.geometry;
    // In the order in which the group wants the prefixes.
    let mut prefixes: Vec<_> = rows
        .iter()
        .zip(&group.rows)
        .filter_map(|(row, place)| Some((place.prefix.start, row.prefix.as_ref()?)))
        .collect();
    prefixes.sort_by_key(|(start, _)| *start);
    let ids = group.ids.f_narrow(0, geometry.prefix_tokens, geometry.segment_tokens)?;
    let ends: Vec<i64> =
        group.rows.iter().flat_map(|place| &place.segments).map(|segment| segment.end as i64 - 1).collect();
    let ends = Tensor::f_from_slice(&ends)?.f_to_device(model.device())?;
    let mut x = model.embedded(&ids)?;
    let mut layers = Vec::with_capacity(model.layers.len());
    for (index, layer) in model.layers.iter().enumerate() {
        let before = match prefixes.as_slice() {
            [] => None,
            prefixes => {
                Some(joined(&prefixes.iter().map(|(_, prefix)| &prefix.layers[index]).collect::<Vec<_>>())?)
            }
        };
        let last = index + 1 == model.layers.len();
        let (y, own) = layer.extend(&x, geometry, before.as_ref(), last.then_some(&ends))?;
        x = y;
        layers.push(own);
    }
    Ok(Extended { group, ends: x, layers })
}

/// Runs the tokens of entering sequences, fills their slots of the cache, and returns the logits after each, `[entering,
/// vocab]`.
pub(super) fn prefill(
    model: &Model,
    prefixes: &mut Prefixes,
    entering: &[Sequence],
    first_slot: usize,
    cache: &[LayerCache],
) -> Result<Tensor> {
    let mut rows: Vec<Continued<'_>> = Vec::new();
    let tokens: Vec<Vec<u32>> = entering.iter().map(Sequence::tokens).collect();
    for (sequence, tokens) in entering.iter().zip(&tokens) {
        let (prefix, frequencies) = (prefixes.of(model, sequence)?, sequence.frequencies);
        let rest = &tokens[prefix.as_ref().map_or(0, |prefix| prefix.ids.len())..];
        let same = |row: &Continued<'_>| {
            row.frequencies == frequencies
                && row.prefix.as_ref().map(Rc::as_ptr) == prefix.as_ref().map(Rc::as_ptr)
        };
        match rows.last_mut().filter(|row| same(row)) {
            Some(row) => row.rests.push(rest),
            None => rows.push(Continued { prefix, rests: vec![rest], frequencies }),
        }
    }
    let Extended { group, ends, layers } = extend(model, &rows)?;
    let mut slot = first_slot as i64;
    for (Continued { prefix, .. }, place) in rows.iter().zip(&group.rows) {
        for segment in &place.segments {
            for (index, (store, own)) in cache.iter().zip(&layers).enumerate() {
                let (start, len) = (segment.start as i64, segment.len() as i64);
                let mut at = 0;
                if let Some(prefix) = prefix {
                    at = prefix.ids.len() as i64;
                    let before = &prefix.layers[index];
                    fill(store, slot, 0, at, (&before.keys, &before.values))?;
                }
                let narrow = |t: &Tensor| t.f_narrow(0, start, len);
                fill(store, slot, at, len, (&narrow(&own.keys)?, &narrow(&own.values)?))?;
            }
            slot += 1;
        }
    }
    logits(model, &ends)
}

/// Copies keys and values, `[tokens, heads, dim]`, to places `at..at + len` of a slot.
fn fill(store: &LayerCache, slot: i64, at: i64, len: i64, new: (&Tensor, &Tensor)) -> Result<()> {
    for (store, new) in [(&store.keys, new.0), (&store.values, new.1)] {
        store.f_select(0, slot)?.f_narrow(1, at, len)?.f_copy_(&new.f_transpose(0, 1)?)?;
    }
    Ok(())
}

/// For prompts in the order of their tokens: the lengths of the beginnings that each shares with its neighbours, ascending.
pub(super) fn shared_lengths(prompts: &[&[u32]]) -> Vec<Vec<usize>> {
    let mut lengths = vec![Vec::new(); prompts.len()];
    mark(prompts, 0, &mut lengths);
    lengths
}

fn mark(prompts: &[&[u32]], known: usize, lengths: &mut [Vec<usize>]) {
    let (Some(first), Some(last)) = (prompts.first(), prompts.last()) else { return };
    if prompts.len() < 2 {
        return;
    }
    // What the first and the last in order share, all share.
    let common = first.iter().zip(*last).take_while(|(a, b)| a == b).count();
    // At least one token of every prompt is left to compute: its logits are wanted.
    let usable = common.min(first.len() - 1);
    let known = if usable >= known + WORTHWHILE {
        lengths.iter_mut().for_each(|lengths| lengths.push(usable));
        usable
    } else {
        known
    };
    let mut start = 0;
    for same in prompts.chunk_by(|a, b| a.get(common) == b.get(common)) {
        let end = start + same.len();
        // Prompts that end here are equal: they have nothing more to share.
        if same[0].len() > common && same.len() < prompts.len() {
            mark(same, known, &mut lengths[start..end]);
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nested_beginnings_are_found() {
        let base: Vec<u32> = (0..20).collect();
        let with = |tail: &[u32]| [base.as_slice(), tail].concat();
        let long: Vec<u32> = (100..120).collect();
        let mut prompts = [
            with(&[[7].as_slice(), &long, &[1]].concat()),
            with(&[[7].as_slice(), &long, &[2]].concat()),
            with(&[8]),
            vec![500, 501],
        ];
        prompts.sort();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        assert_eq!(shared_lengths(&prompts), [vec![20, 41], vec![20, 41], vec![20], vec![]]);
    }

    #[test]
    fn equal_prompts_share_all_but_the_last_token() {
        let prompt: Vec<u32> = (0..30).collect();
        assert_eq!(shared_lengths(&[&prompt, &prompt, &prompt]), [[29], [29], [29]]);
        assert_eq!(shared_lengths(&[&[1], &[1]]), [[0usize; 0]; 2]);
    }

    proptest! {
        #[test]
        fn what_is_said_to_be_shared_is_shared(
            mut prompts in prop::collection::vec(
                (0u32..3, prop::collection::vec(0u32..2, 0..3), 0usize..25).prop_map(|(a, tail, n)| {
                    [vec![a; n + 1], tail, vec![a; 20]].concat()
                }),
                1..12,
            ),
        ) {
            prompts.sort();
            let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
            for (index, lengths) in shared_lengths(&prompts).iter().enumerate() {
                prop_assert!(lengths.windows(2).all(|w| w[0] + WORTHWHILE <= w[1]));
                for &length in lengths {
                    prop_assert!(length < prompts[index].len());
                    let same = prompts.iter().filter(|other| other.starts_with(&prompts[index][..length])).count();
                    prop_assert!(same >= 2);
                }
            }
        }
    }
}
