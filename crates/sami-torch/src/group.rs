//! Packed rows that go through the layers together, as tensors.

use std::collections::BTreeSet;

use tch::Tensor;

use crate::error::Result;
use crate::model::{AttentionRow, Geometry, Heads, Mask, Model};
use crate::packing::PackedRow;

/// Rows laid end to end, without padding.
pub(crate) struct Group {
    /// [tokens].
    pub(crate) ids: Tensor,
    pub(crate) geometry: Geometry,
    /// Number of segment tokens of all rows.
    pub(crate) segment_tokens: i64,
    /// Places of the predicting positions among the segment tokens, [counted].
    pub(crate) counted: Tensor,
    /// The tokens they predict, [counted].
    pub(crate) targets: Tensor,
}

impl Group {
    pub(crate) fn new(model: &Model, rows: &[&PackedRow]) -> Result<Self> {
        let (device, kind) = (model.device(), model.kind());
        let tensor =
            |values: &[i64]| -> Result<Tensor> { Ok(Tensor::f_from_slice(values)?.f_to_device(device)?) };
        let windows: BTreeSet<Option<usize>> = model.config.windows.iter().copied().collect();
        let group = Heads::new(&model.config).group();

        let (mut ids, mut positions, mut segment_index) = (Vec::new(), Vec::new(), Vec::new());
        let (mut counted, mut targets) = (Vec::new(), Vec::new());
        let mut attention = Vec::with_capacity(rows.len());
        for row in rows {
            let (start, segments_start) = (ids.len(), segment_index.len());
            counted.extend(row.counted.iter().map(|c| (segments_start + c.place) as i64));
            targets.extend(row.counted.iter().map(|c| i64::from(c.target)));
            segment_index.extend((start + row.prefix..start + row.len()).map(|place| place as i64));
            ids.extend(row.ids.iter().map(|&id| i64::from(id)));
            positions.extend_from_slice(&row.position);
            let (segment, position) = (tensor(&row.segment)?, tensor(&row.position)?);
            let masks = windows
                .iter()
                .map(|&window| {
                    let mask = Mask::new(&segment, &position, row.prefix as i64, window, group, kind)?;
                    Ok((window, mask))
                })
                .collect::<Result<_>>()?;
            attention.push(AttentionRow {
                start: start as i64,
                segments_start: segments_start as i64,
                prefix: row.prefix as i64,
                segments: (row.len() - row.prefix) as i64,
                masks,
            });
        }
        let (positions, segment_index_tensor) = (tensor(&positions)?, tensor(&segment_index)?);
        let geometry = Geometry {
            rotation: model.rope.rotation(&positions)?,
            segment_rotation: model.rope.rotation(&positions.f_index_select(0, &segment_index_tensor)?)?,
            segment_index: segment_index_tensor,
            rows: attention,
        };
        Ok(Self {
            ids: tensor(&ids)?,
            geometry,
            segment_tokens: segment_index.len() as i64,
            counted: tensor(&counted)?,
            targets: tensor(&targets)?,
        })
    }
}
