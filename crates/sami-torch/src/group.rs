//! Packed rows that go through the layers together, as tensors: all prefixes, then all segments.

use std::collections::BTreeSet;
use std::ops::Range;

use tch::Tensor;

use crate::error::Result;
use crate::model::{Block, Dropout, DropoutSeed, Frequencies, Geometry, Model, Places};
use crate::packing::PackedRow;

/// Rows without padding in everything but attention.
pub(crate) struct Group {
    /// `[tokens]`.
    pub(crate) ids: Tensor,
    pub(crate) geometry: Geometry,
    /// Where each row stands, in the order in which they were given.
    pub(crate) rows: Vec<RowPlace>,
    /// Places of the predicting positions among the segment tokens, `[counted]`.
    pub(crate) counted: Tensor,
    /// The tokens they predict, `[counted]`.
    pub(crate) targets: Tensor,
}

/// A row's tokens: its prefix among the group's prefix tokens, each segment among the group's segment tokens.
#[derive(Clone)]
pub(crate) struct RowPlace {
    pub(crate) prefix: Range<usize>,
    pub(crate) segments: Vec<Range<usize>>,
}

/// Tokens that ask together and see the same earlier tokens: a prefix, or a segment after its prefix.
struct Unit {
    /// Among the prefix tokens or the segment tokens.
    queries: Range<usize>,
    /// Runs among all tokens, in order of position; the queries' own are the last.
    keys: [Range<usize>; 2],
}

impl Unit {
    fn keys(&self) -> usize {
        self.keys.iter().map(Range::len).sum()
    }
}

impl Group {
    /// With `dropout` for training adapters.
    pub(crate) fn new(model: &Model, rows: &[&PackedRow], dropout: Option<DropoutSeed>) -> Result<Self> {
        let layout = Layout::of(rows);
        let tokens = layout.prefix_tokens + layout.segment_tokens;
        let (mut ids, mut positions) = (vec![0i64; tokens], vec![0i64; tokens]);
        let mut frequencies = vec![Frequencies::Original; tokens];
        let (mut counted, mut targets) = (Vec::new(), Vec::new());
        let mut keys = dropout.map(|_| vec![0i64; tokens]);
        for (row, place) in rows.iter().zip(&layout.rows) {
            let segment_places: Vec<usize> = place.segments.iter().cloned().flatten().collect();
            let all = place.prefix.clone().chain(segment_places.iter().map(|at| layout.prefix_tokens + at));
            let own_keys = dropout.map(|seed| seed.keys(row)).unwrap_or_default();
            for (index, place) in all.enumerate() {
                ids[place] = i64::from(row.ids[index]);
                positions[place] = row.position[index];
                frequencies[place] = row.frequencies;
                if let Some(keys) = &mut keys {
                    keys[place] = own_keys[index];
                }
            }
            counted.extend(row.counted.iter().map(|c| segment_places[c.place] as i64));
            targets.extend(row.counted.iter().map(|c| i64::from(c.target)));
        }

        let tensor = |values: &[i64]| to_device(model, values);
        let blocks = Blocks::new(model);
        let geometry = Geometry {
            rotation: model.rope.rotation(&positions, &frequencies)?,
            segment_rotation: model
                .rope
                .rotation(&positions[layout.prefix_tokens..], &frequencies[layout.prefix_tokens..])?,
            prefix_tokens: layout.prefix_tokens as i64,
            segment_tokens: layout.segment_tokens as i64,
            prefixes: blocks.cut(&layout.prefixes)?,
            segments: blocks.cut(&layout.segments)?,
            dropout: match (dropout, keys) {
                (Some(seed), Some(keys)) => Some(Dropout::new(seed, &keys, model.device())?),
                _ => None,
            },
        };
        Ok(Self {
            ids: tensor(&ids)?,
            geometry,
            rows: layout.rows,
            counted: tensor(&counted)?,
            targets: tensor(&targets)?,
        })
    }
}

/// Who stands where. Units of like length stand together, so that blocks of them need little padding.
struct Layout {
    rows: Vec<RowPlace>,
    prefixes: Vec<Unit>,
    segments: Vec<Unit>,
    prefix_tokens: usize,
    segment_tokens: usize,
}

impl Layout {
    fn of(rows: &[&PackedRow]) -> Self {
        let mut places: Vec<RowPlace> = rows
            .iter()
            .map(|row| RowPlace { prefix: 0..0, segments: vec![0..0; row.segment_lengths().len()] })
            .collect();
        let (mut prefixes, mut segments) = (Vec::new(), Vec::new());

        let mut order: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].prefix > 0).collect();
        order.sort_by_key(|&row| (rows[row].prefix, row));
        let mut prefix_tokens = 0;
        for row in order {
            let queries = prefix_tokens..prefix_tokens + rows[row].prefix;
            prefix_tokens = queries.end;
            places[row].prefix = queries.clone();
            prefixes.push(Unit { keys: [0..0, queries.clone()], queries });
        }

        let lengths = rows.iter().enumerate().flat_map(|(row, packed)| {
            let lengths = packed.segment_lengths().into_iter().enumerate();
            lengths.map(move |(segment, length)| (length, packed.prefix, row, segment))
        });
        let mut order: Vec<_> = lengths.collect();
        order.sort_unstable();
        let mut segment_tokens = 0;
        for (length, _, row, segment) in order {
            let queries = segment_tokens..segment_tokens + length;
            segment_tokens = queries.end;
            let own = prefix_tokens + queries.start..prefix_tokens + queries.end;
            segments.push(Unit { keys: [places[row].prefix.clone(), own], queries: queries.clone() });
            places[row].segments[segment] = queries;
        }
        Self { rows: places, prefixes, segments, prefix_tokens, segment_tokens }
    }
}

fn to_device(model: &Model, values: &[i64]) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_to_device(model.device())?)
}

/// Cuts sorted units into blocks.
struct Blocks<'a> {
    model: &'a Model,
    windows: BTreeSet<Option<usize>>,
    /// Entries of the padded score matrices of a block of several units, all heads together.
    largest: usize,
}

impl<'a> Blocks<'a> {
    fn new(model: &'a Model) -> Self {
        let windows = model.config.windows.iter().copied().collect();
        // Cache-sized on the processor; on a GPU launching is what costs.
        let largest = if model.device().is_cuda() { 1 << 28 } else { 1 << 20 };
        Self { model, windows, largest }
    }

    fn cut(&self, units: &[Unit]) -> Result<Vec<Block>> {
        let heads = self.model.config.num_attention_heads;
        let mut blocks = Vec::new();
        let mut start = 0;
        while start < units.len() {
            let (mut end, mut real) = (start, 0);
            let (mut queries, mut keys) = (0, 0);
            while let Some(unit) = units.get(end) {
                let wider = (queries.max(unit.queries.len()), keys.max(unit.keys()));
                let padded = wider.0 * wider.1 * (end + 1 - start);
                let needed = real + unit.queries.len() * unit.keys();
                // Padding costs arithmetic: at most a third of what is needed.
                if end > start && (padded * heads > self.largest || padded * 3 > needed * 4) {
                    break;
                }
                ((queries, keys), real, end) = (wider, needed, end + 1);
            }
            blocks.push(self.block(&units[start..end], queries, keys)?);
            start = end;
        }
        Ok(blocks)
    }

    fn block(&self, units: &[Unit], queries: usize, keys: usize) -> Result<Block> {
        let masks = self
            .windows
            .iter()
            .map(|&window| Ok((window, self.mask(units, [units.len(), queries, keys], window)?)))
            .collect::<Result<_>>()?;
        let asking: Vec<_> = units.iter().map(|unit| [0..0, unit.queries.clone()]).collect();
        let seen: Vec<_> = units.iter().map(|unit| unit.keys.clone()).collect();
        Ok(Block {
            rows: units.len() as i64,
            queries: self.places(&asking, queries)?,
            keys: self.places(&seen, keys)?,
            masks,
        })
    }

    fn places(&self, units: &[[Range<usize>; 2]], longest: usize) -> Result<Places> {
        if let [[before, own]] = units
            && before.is_empty()
        {
            return Ok(Places::Run { start: own.start as i64, len: own.len() as i64 });
        }
        let (mut index, mut real) = (vec![0i64; units.len() * longest], Vec::new());
        for (unit, runs) in units.iter().enumerate() {
            for (offset, place) in runs.iter().cloned().flatten().enumerate() {
                index[unit * longest + offset] = place as i64;
                real.push((unit * longest + offset) as i64);
            }
        }
        Ok(Places::Padded {
            index: to_device(self.model, &index)?,
            longest: longest as i64,
            real: to_device(self.model, &real)?,
        })
    }

    /// 0 where a query sees a key, by logical position, else −∞. Padding that asks sees everything, so that no row of the
    /// softmax is empty; nobody reads its answer.
    fn mask(
        &self,
        units: &[Unit],
        [count, queries, keys]: [usize; 3],
        window: Option<usize>,
    ) -> Result<Tensor> {
        let mut mask = vec![0f32; count * queries * keys];
        for (unit, mask) in units.iter().zip(mask.chunks_exact_mut(queries * keys)) {
            // Keys stand in order of position, and the queries' own are the last of them.
            let before = unit.keys() - unit.queries.len();
            for (query, mask) in mask.chunks_exact_mut(keys).take(unit.queries.len()).enumerate() {
                let own = before + query;
                mask[own + 1..].fill(f32::NEG_INFINITY);
                if let Some(window) = window {
                    mask[..(own + 1).saturating_sub(window)].fill(f32::NEG_INFINITY);
                }
            }
        }
        Ok(Tensor::f_from_slice(&mask)?
            .f_view([count as i64, queries as i64, keys as i64])?
            .f_to_device(self.model.device())?
            .f_to_kind(self.model.kind())?)
    }
}
