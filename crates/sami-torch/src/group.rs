//! Packed rows that go through the layers together, as tensors: all prefixes, then all segments.

use std::collections::BTreeSet;
use std::ops::Range;

use tch::Tensor;

use crate::error::Result;
use crate::model::{Block, Geometry, Model, Places};
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

/// A row's tokens among those of the group.
#[derive(Clone)]
pub(crate) struct RowPlace {
    pub(crate) prefix: Range<usize>,
    pub(crate) segments: Range<usize>,
}

impl RowPlace {
    /// Keys that the row's segments see, in order.
    fn keys(&self) -> impl Iterator<Item = i64> + '_ {
        self.prefix.clone().chain(self.segments.clone()).map(|place| place as i64)
    }
}

impl Group {
    pub(crate) fn new(model: &Model, rows: &[&PackedRow]) -> Result<Self> {
        let prefix_tokens: usize = rows.iter().map(|row| row.prefix).sum();
        let (mut prefix_end, mut segments_end) = (0, prefix_tokens);
        let mut places = vec![RowPlace { prefix: 0..0, segments: 0..0 }; rows.len()];
        // Rows of like length stand together, so that blocks of them need little padding.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&index| (rows[index].prefix, rows[index].len(), index));
        for &index in &order {
            let row = rows[index];
            let segments = row.len() - row.prefix;
            places[index] = RowPlace {
                prefix: prefix_end..prefix_end + row.prefix,
                segments: segments_end..segments_end + segments,
            };
            prefix_end += row.prefix;
            segments_end += segments;
        }

        let tokens = segments_end;
        let (mut ids, mut positions) = (vec![0i64; tokens], vec![0i64; tokens]);
        let (mut counted, mut targets) = (Vec::new(), Vec::new());
        for (row, place) in rows.iter().zip(&places) {
            let at = place.prefix.clone().chain(place.segments.clone());
            for (place, (&id, &position)) in at.zip(row.ids.iter().zip(&row.position)) {
                ids[place] = i64::from(id);
                positions[place] = position;
            }
            let start = place.segments.start - prefix_tokens;
            counted.extend(row.counted.iter().map(|c| (start + c.place) as i64));
            targets.extend(row.counted.iter().map(|c| i64::from(c.target)));
        }

        let tensor = |values: &[i64]| to_device(model, values);
        let sorted: Vec<(&PackedRow, &RowPlace)> =
            order.iter().map(|&index| (rows[index], &places[index])).collect();
        let blocks = Blocks::new(model, prefix_tokens);
        let geometry = Geometry {
            rotation: model.rope.rotation(&tensor(&positions)?)?,
            segment_rotation: model.rope.rotation(&tensor(&positions[prefix_tokens..])?)?,
            prefix_tokens: prefix_tokens as i64,
            segment_tokens: (tokens - prefix_tokens) as i64,
            prefixes: blocks.cut(&sorted, Part::Prefix)?,
            segments: blocks.cut(&sorted, Part::Segments)?,
        };
        Ok(Self {
            ids: tensor(&ids)?,
            geometry,
            rows: places,
            counted: tensor(&counted)?,
            targets: tensor(&targets)?,
        })
    }
}

fn to_device(model: &Model, values: &[i64]) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_to_device(model.device())?)
}

/// Which of a row's tokens ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Prefix,
    Segments,
}

impl Part {
    fn queries(self, row: &PackedRow) -> usize {
        match self {
            Self::Prefix => row.prefix,
            Self::Segments => row.len() - row.prefix,
        }
    }

    fn keys(self, row: &PackedRow) -> usize {
        match self {
            Self::Prefix => row.prefix,
            Self::Segments => row.len(),
        }
    }
}

/// Cuts sorted rows into blocks.
struct Blocks<'a> {
    model: &'a Model,
    prefix_tokens: usize,
    windows: BTreeSet<Option<usize>>,
    /// Entries of the padded score matrices of a block of several rows, all heads together.
    largest: usize,
}

impl<'a> Blocks<'a> {
    fn new(model: &'a Model, prefix_tokens: usize) -> Self {
        let windows = model.config.windows.iter().copied().collect();
        // Cache-sized on the processor; on a GPU launching is what costs.
        let largest = if model.device().is_cuda() { 1 << 28 } else { 1 << 20 };
        Self { model, prefix_tokens, windows, largest }
    }

    fn cut(&self, rows: &[(&PackedRow, &RowPlace)], part: Part) -> Result<Vec<Block>> {
        let area = |rows: &[(&PackedRow, &RowPlace)]| {
            let most = |size: fn(Part, &PackedRow) -> usize| {
                rows.iter().map(|(row, _)| size(part, row)).max().unwrap_or(0)
            };
            most(Part::queries) * most(Part::keys) * rows.len()
        };
        let heads = self.model.config.num_attention_heads;
        let mut blocks = Vec::new();
        let mut start = rows.iter().take_while(|(row, _)| part.queries(row) == 0).count();
        while start < rows.len() {
            let (mut end, mut real) = (start + 1, area(&rows[start..=start]));
            while end < rows.len() {
                let padded = area(&rows[start..=end]);
                let grown = real + area(&rows[end..=end]);
                // Padding costs arithmetic: at most a third of what is needed.
                if padded * heads > self.largest || padded * 3 > grown * 4 {
                    break;
                }
                (end, real) = (end + 1, grown);
            }
            blocks.push(self.block(&rows[start..end], part)?);
            start = end;
        }
        Ok(blocks)
    }

    fn block(&self, rows: &[(&PackedRow, &RowPlace)], part: Part) -> Result<Block> {
        let queries: Vec<Vec<i64>> = rows
            .iter()
            .map(|(_, place)| match part {
                Part::Prefix => place.prefix.clone().map(|place| place as i64).collect(),
                Part::Segments => {
                    place.segments.clone().map(|place| (place - self.prefix_tokens) as i64).collect()
                }
            })
            .collect();
        let keys: Vec<Vec<i64>> = match part {
            Part::Prefix => queries.clone(),
            Part::Segments => rows.iter().map(|(_, place)| place.keys().collect()).collect(),
        };
        let longest = |places: &[Vec<i64>]| places.iter().map(Vec::len).max().unwrap_or(0);
        let shape = [rows.len(), longest(&queries), longest(&keys)];
        let masks = self
            .windows
            .iter()
            .map(|&window| Ok((window, self.mask(rows, part, shape, window)?)))
            .collect::<Result<_>>()?;
        Ok(Block {
            rows: rows.len() as i64,
            queries: self.places(&queries)?,
            keys: self.places(&keys)?,
            masks,
            causal: part == Part::Prefix || rows.iter().all(|(row, _)| row.is_one_sequence()),
        })
    }

    fn places(&self, rows: &[Vec<i64>]) -> Result<Places> {
        if let [row] = rows {
            let start = row.first().copied().unwrap_or(0);
            if row.iter().enumerate().all(|(offset, &place)| place == start + offset as i64) {
                return Ok(Places::Run { start, len: row.len() as i64 });
            }
        }
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let (mut index, mut real) = (vec![0i64; rows.len() * longest], Vec::new());
        for (row, places) in rows.iter().enumerate() {
            for (offset, &place) in places.iter().enumerate() {
                index[row * longest + offset] = place;
                real.push((row * longest + offset) as i64);
            }
        }
        Ok(Places::Padded {
            index: to_device(self.model, &index)?,
            longest: longest as i64,
            real: to_device(self.model, &real)?,
        })
    }

    /// 0 where a query sees a key, by logical position and segment, else −∞. Padding that asks sees everything, so that no
    /// row of the softmax is empty; nobody reads its answer.
    fn mask(
        &self,
        rows: &[(&PackedRow, &RowPlace)],
        part: Part,
        [count, queries, keys]: [usize; 3],
        window: Option<usize>,
    ) -> Result<Tensor> {
        let mut mask = vec![0f32; count * queries * keys];
        for ((row, _), mask) in rows.iter().zip(mask.chunks_exact_mut(queries * keys)) {
            let first = match part {
                Part::Prefix => 0,
                Part::Segments => row.prefix,
            };
            for (query, mask) in (first..first + part.queries(row)).zip(mask.chunks_exact_mut(keys)) {
                let near = window.map_or(i64::MIN, |window| row.position[query] - window as i64);
                for (key, entry) in mask.iter_mut().enumerate() {
                    let seen = key <= query
                        && (row.segment[key] == 0 || row.segment[key] == row.segment[query])
                        && row.position[key] > near;
                    if !seen {
                        *entry = f32::NEG_INFINITY;
                    }
                }
            }
        }
        Ok(Tensor::f_from_slice(&mask)?
            .f_view([count as i64, queries as i64, keys as i64])?
            .f_to_device(self.model.device())?
            .f_to_kind(self.model.kind())?)
    }
}
