//! The feed-forward half of a layer: one gated MLP, or several of which a router chooses a few for each token.

use tch::{Kind, Tensor};

use super::dropout::Dropout;
use super::linear::{Linear, Parts};
use crate::config::ModelConfig;
use crate::error::Result;

/// down(silu(gate x) ⊙ up x).
pub(crate) struct GatedMlp {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl GatedMlp {
    fn apply(&self, x: &Tensor, dropout: Option<&Dropout>) -> Result<Tensor> {
        let inner = self.gate.apply(x, dropout)?.f_silu()?.f_mul(&self.up.apply(x, dropout)?)?;
        self.down.apply(&inner, dropout)
    }
}

/// What stands after the attention.
pub(crate) enum Mlp {
    Dense(GatedMlp),
    Mixture(Mixture),
}

/// Which experts each token went to, `[tokens, k]`. The choice of the first forward pass holds for every later one over the
/// same tokens, lest rounding send a token elsewhere in the backward pass.
pub(crate) struct Route {
    experts: Tensor,
    /// For every expert, the places in `experts`, flattened, that name it.
    places: Vec<Option<Tensor>>,
}

/// Mixture of experts (arXiv 2401.04088): the router's k best, weighted by its softmax over those k.
pub(crate) struct Mixture {
    router: Linear,
    experts: Vec<Expert>,
    per_token: i64,
}

struct Expert {
    mlp: GatedMlp,
    trainable: Vec<usize>,
}

impl Mlp {
    pub(crate) fn new(config: &ModelConfig, layer: usize, parts: &mut Parts<'_>) -> Result<Self> {
        let at = |name: &str| format!("model.layers.{layer}.{name}");
        let Some(mixture) = config.mixture else {
            return Ok(Self::Dense(GatedMlp {
                gate: parts.linear(&at("mlp.gate_proj"))?,
                up: parts.linear(&at("mlp.up_proj"))?,
                down: parts.linear(&at("mlp.down_proj"))?,
            }));
        };
        let router = parts.linear(&at("block_sparse_moe.gate"))?;
        let rest = parts.take_trainable();
        let experts = (0..mixture.experts)
            .map(|expert| {
                let mut part =
                    |name: &str| parts.linear(&at(&format!("block_sparse_moe.experts.{expert}.{name}")));
                let mlp = GatedMlp { gate: part("w1")?, up: part("w3")?, down: part("w2")? };
                Ok(Expert { mlp, trainable: parts.take_trainable() })
            })
            .collect::<Result<_>>()?;
        parts.give_back(rest);
        Ok(Self::Mixture(Mixture { router, experts, per_token: mixture.per_token as i64 }))
    }

    /// x: `[tokens, hidden]`. `route` is used where it is there, and filled in where it is not.
    pub(crate) fn apply(
        &self,
        x: &Tensor,
        route: &mut Option<Route>,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        match self {
            Self::Dense(mlp) => mlp.apply(x, dropout),
            // Adapters on experts or router come without dropout, as in PEFT.
            Self::Mixture(mixture) => mixture.apply(x, route),
        }
    }

    /// Parameters of the experts that the route reached; those of the others have no gradient.
    pub(crate) fn reached(&self, route: Option<&Route>) -> Vec<usize> {
        let (Self::Mixture(mixture), Some(route)) = (self, route) else { return Vec::new() };
        let reached = mixture.experts.iter().zip(&route.places).filter(|(_, places)| places.is_some());
        reached.flat_map(|(expert, _)| expert.trainable.iter().copied()).collect()
    }
}

impl Mixture {
    fn apply(&self, x: &Tensor, route: &mut Option<Route>) -> Result<Tensor> {
        let probabilities = self.router.apply(x, None)?.f_softmax(-1, Kind::Float)?;
        let route = match route {
            Some(route) => route,
            none => none.insert(self.route(&probabilities)?),
        };
        let chosen = probabilities.f_gather(-1, &route.experts, false)?;
        let weights = chosen.f_div(&chosen.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)?)?;
        let weights = weights.f_to_kind(x.kind())?.f_flatten(0, 1)?;
        let mut out = x.f_zeros_like()?;
        for (expert, places) in self.experts.iter().zip(&route.places) {
            let Some(places) = places else { continue };
            let tokens = places.f_div_scalar_mode(self.per_token, "floor")?;
            let weight = weights.f_index_select(0, places)?.f_unsqueeze(-1)?;
            let part = expert.mlp.apply(&x.f_index_select(0, &tokens)?, None)?.f_mul(&weight)?;
            out = out.f_index_add(0, &tokens, &part)?;
        }
        Ok(out)
    }

    fn route(&self, probabilities: &Tensor) -> Result<Route> {
        let (_, experts) = probabilities.f_detach()?.f_topk(self.per_token, -1, true, true)?;
        let flat = Vec::<i64>::try_from(experts.f_to_device(tch::Device::Cpu)?.f_flatten(0, 1)?)?;
        let mut places = vec![Vec::new(); self.experts.len()];
        for (place, &expert) in flat.iter().enumerate() {
            places[expert as usize].push(place as i64);
        }
        let places = places
            .into_iter()
            .map(|places| {
                if places.is_empty() {
                    return Ok(None);
                }
                Ok(Some(Tensor::f_from_slice(&places)?.f_to_device(experts.device())?))
            })
            .collect::<Result<_>>()?;
        Ok(Route { experts, places })
    }
}
