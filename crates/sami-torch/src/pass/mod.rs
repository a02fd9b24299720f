//! The layer-wise engine: packed rows through the model and back, each thread with its share of the rows.
//!
//! Every layer is an island of its own in LibTorch's graph: (output · gradient).sum() gives its vector-Jacobian product.
//! With recomputation only the inputs are kept and a layer runs again in the backward pass (activation checkpointing without hooks);
//! without it the islands are kept whole. Both give the same numbers.

mod backward;

use std::ops::Range;

use tch::{Tensor, with_grad};

use crate::config::ModelConfig;
use crate::crew::{Crew, deal};
use crate::error::Result;
use crate::group::Group;
use crate::head::{CHUNK_ELEMENTS, Head, HeadForward};
use crate::model::{DropoutSeed, Model, Route};
use crate::packing::PackedRow;

pub(crate) use backward::KlTerm;

/// How work is cut, and what is kept between forward and backward.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) crew: &'a Crew,
    /// Tokens that go through the layers at once, those of all threads together.
    pub(crate) token_budget: usize,
    pub(crate) recompute: bool,
    /// Adapters' dropout, in training.
    pub(crate) dropout: Option<DropoutSeed>,
}

/// What all shares together may hold of one layer, in bytes: its weights where they are widened, and its gradients.
const BESIDE: usize = 512 << 20;

/// How many shares `threads` threads work on. Large layers, whose gradients would take much memory in many shares, have fewer, and
/// several threads for each.
pub(crate) fn shares(config: &ModelConfig, threads: usize) -> usize {
    (BESIDE / (8 * config.layer_parameters()).max(1)).clamp(1, threads.max(1))
}

/// What the forward pass keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing: scoring.
    Nothing,
    /// Each layer's input.
    Inputs,
    /// Each layer's input and its graph.
    Graphs,
}

/// Which experts every layer chose for each share; empty before the first pass.
pub(crate) type Routes = Vec<Vec<Option<Route>>>;

/// A finished forward pass over some rows.
pub(crate) struct Pass<'a> {
    model: &'a Model,
    crew: &'a Crew,
    shares: Vec<Share>,
    /// Each row's counted tokens among those of all rows.
    counted: Vec<Range<usize>>,
}

/// Some of the rows, and how they went through.
struct Share {
    /// Which, ascending.
    rows: Vec<usize>,
    /// Handles on the model's tensors, for the thread that computes.
    model: Model,
    group: Group,
    islands: Vec<Island>,
    /// Last layer's output at the counted positions, `[counted, hidden]`.
    hidden: Tensor,
    head: Head,
    found: HeadForward,
}

struct Island {
    input: Tensor,
    output: Option<Tensor>,
    route: Option<Route>,
}

impl<'a> Pass<'a> {
    /// Runs rows through the model. `routes` are those of an earlier pass over the same rows, if there was one.
    pub(crate) fn run(
        model: &'a Model,
        plan: Plan<'a>,
        rows: &[&PackedRow],
        keep: Keep,
        routes: Routes,
    ) -> Result<Self> {
        let Plan { crew, dropout, .. } = plan;
        let sizes: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        let lots = deal(&sizes, shares(&model.config, crew.threads()));
        let chunk = CHUNK_ELEMENTS / lots.len().max(1) as i64;
        let weight = crew.converted(model.head(), model.kind())?;
        let mut routes = routes.into_iter();
        let work = lots
            .into_iter()
            .map(|lot| Ok((lot, model.share()?, weight.shallow_clone(), routes.next().unwrap_or_default())))
            .collect::<Result<_>>()?;
        let shares = crew.map(work, |(lot, model, weight, routes)| {
            let own: Vec<&PackedRow> = lot.iter().map(|&row| rows[row]).collect();
            let group = Group::new(&model, &own, dropout)?;
            let (islands, x) = through_layers(&model, &group, keep, routes)?;
            let hidden = x.f_index_select(0, &group.counted)?;
            let h = model.final_norm(&hidden, model.norm())?;
            let head = Head { h, weight, targets: group.targets.shallow_clone(), chunk };
            let found = head.forward(keep != Keep::Nothing)?;
            Ok(Share { rows: lot, model, group, islands, hidden, head, found })
        })?;
        let mut end = 0;
        let counted = rows.iter().map(|row| {
            let start = end;
            end += row.counted.len();
            start..end
        });
        Ok(Self { model, crew, shares, counted: counted.collect() })
    }

    /// Which experts each layer chose.
    pub(crate) fn into_routes(self) -> Routes {
        let routes = |share: Share| share.islands.into_iter().map(|island| island.route).collect();
        self.shares.into_iter().map(routes).collect()
    }

    /// Log-probabilities of the counted tokens, row by row and in order, in nats.
    pub(crate) fn logps(&self) -> Result<Vec<f32>> {
        let mut logps = vec![0.0; self.counted.last().map_or(0, |last| last.end)];
        for share in &self.shares {
            let own = Vec::<f32>::try_from(share.found.logps.f_to_device(tch::Device::Cpu)?)?;
            for (place, value) in share.counted(&self.counted).zip(own) {
                logps[place] = value;
            }
        }
        Ok(logps)
    }
}

impl Share {
    /// Places of its counted tokens among those of all rows, in its own order.
    fn counted<'a>(&'a self, counted: &'a [Range<usize>]) -> impl Iterator<Item = usize> + 'a {
        self.rows.iter().flat_map(|&row| counted[row].clone())
    }
}

/// The layers' islands, and what the last of them returns.
fn through_layers(
    model: &Model,
    group: &Group,
    keep: Keep,
    routes: Vec<Option<Route>>,
) -> Result<(Vec<Island>, Tensor)> {
    let mut x = model.embedded(&group.ids)?;
    let mut islands = Vec::new();
    let mut routes = routes.into_iter();
    for (index, layer) in model.layers.iter().enumerate() {
        let segments_only = index + 1 == model.layers.len();
        let mut route = routes.next().flatten();
        let (input, output) = match keep {
            Keep::Graphs => {
                let input = leaf(&x)?;
                let output = with_grad(|| layer.forward(&input, &group.geometry, segments_only, &mut route))?;
                x = output.f_detach()?;
                (input, Some(output))
            }
            Keep::Nothing | Keep::Inputs => {
                let output = layer.forward(&x, &group.geometry, segments_only, &mut route)?;
                let input = std::mem::replace(&mut x, output);
                (if keep == Keep::Inputs { input } else { Tensor::new() }, None)
            }
        };
        islands.push(Island { input, output, route });
    }
    Ok((islands, x))
}

/// The same numbers, as the beginning of a new graph.
fn leaf(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_detach()?.f_set_requires_grad(true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_small_layers_and_work_together_on_large_ones() {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/parity/mistral-f32/checkpoint");
        let mut config = ModelConfig::read(fixture.as_ref()).unwrap();
        assert_eq!(shares(&config, 16), 16);
        // mistral-7b's layer.
        (config.hidden_size, config.intermediate_size, config.head_dim) = (4096, 14336, 128);
        (config.num_attention_heads, config.num_key_value_heads) = (32, 8);
        assert_eq!(config.layer_parameters(), 218_112_000);
        assert_eq!(shares(&config, 16), 1);
        assert_eq!(shares(&config, 1), 1);
    }
}
