//! From the names in files to the names of the model: what wrapped the model when it was saved has left its mark on them.

use crate::config::ModelConfig;

/// Modules that wrap others without computing anything, wherever they stand in a name: torch.compile, FSDP, activation
/// checkpointing, Lightning Fabric.
const WRAPPERS: [&str; 4] =
    ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"];

/// What may stand before the whole model: DDP and DeepSpeed, PEFT, TRL, and models of which this one is the text part.
const OUTER: [&str; 4] = ["module.", "base_model.model.", "pretrained_model.", "language_model."];

/// Heads beside that of the language model, by their first component.
const OTHER_HEADS: [&str; 9] = [
    "v_head",
    "value_head",
    "critic_head",
    "reward_head",
    "rm_head",
    "score",
    "classifier",
    "regression_head",
    "regression_layer",
];

/// Computed from the configuration, and never read.
const ROTARY_BUFFERS: [&str; 4] = ["inv_freq", "original_inv_freq", "cos_cached", "sin_cached"];

/// What a name in a file stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A tensor of the model by the model's name; or one that nothing knows.
    Tensor(String),
    /// A value or reward head: no part of a language model.
    OtherHead,
    /// Cosines and frequencies.
    RotaryBuffer,
}

pub(super) fn named(name: &str, config: &ModelConfig) -> Named {
    let name = normal(name, config);
    let mut parts = name.split('.');
    if parts.next().is_some_and(|first| OTHER_HEADS.contains(&first)) {
        return Named::OtherHead;
    }
    let mut from_end = name.rsplit('.');
    match (from_end.next(), from_end.next()) {
        (Some(last), Some("rotary_emb")) if ROTARY_BUFFERS.contains(&last) => Named::RotaryBuffer,
        _ => Named::Tensor(name),
    }
}

/// The name without wrappers, as [`ModelConfig::tensors`] spells it.
fn normal(name: &str, config: &ModelConfig) -> String {
    let kept: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    let mut name = kept.join(".");
    while let Some(inner) = unwrapped(&name) {
        name = inner;
    }
    if ["layers.", "embed_tokens.", "norm.", "rotary_emb."].iter().any(|begin| name.starts_with(begin)) {
        name.insert_str(0, "model.");
    }
    match config.mixture {
        Some(_) => name.replacen(".mlp.", ".block_sparse_moe.", 1),
        None => name,
    }
}

/// The name without its outermost wrapper, if it has one.
fn unwrapped(name: &str) -> Option<String> {
    if let Some(inner) = OUTER.iter().find_map(|outer| name.strip_prefix(outer)) {
        return Some(inner.to_owned());
    }
    let inner = name.strip_prefix("model.")?;
    if let Some(text) = inner.strip_prefix("language_model.") {
        return Some(format!("model.{text}"));
    }
    let wraps = ["model.", "lm_head."].into_iter().chain(OUTER).any(|begin| inner.starts_with(begin));
    wraps.then(|| inner.to_owned())
}

/// A tensor's place within a larger one: the larger is cut along its storage into equal parts, of which this is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The model's name for the larger one.
    pub(super) whole: String,
    /// Its shape.
    pub(super) shape: Vec<i64>,
    pub(super) index: usize,
    pub(super) count: usize,
}

/// Where transformers 5 keeps an expert's matrix: `experts.gate_up_proj` is `[experts, 2 · inner, hidden]` with the rows of w1
/// before those of w3, `experts.down_proj` is `[experts, hidden, inner]`, w2.
pub(super) fn fused(name: &str, config: &ModelConfig) -> Option<Part> {
    let experts = config.mixture?.experts;
    let (layer, rest) = name.split_once(".experts.")?;
    let (expert, matrix) = rest.split_once('.')?;
    let expert: usize = expert.parse().ok()?;
    let (inner, hidden) = (config.intermediate_size as i64, config.hidden_size as i64);
    let whole = |tensor: &str| format!("{layer}.experts.{tensor}");
    let half = |index: usize| Part {
        whole: whole("gate_up_proj"),
        shape: vec![experts as i64, 2 * inner, hidden],
        index,
        count: 2 * experts,
    };
    match matrix {
        "w1.weight" => Some(half(2 * expert)),
        "w3.weight" => Some(half(2 * expert + 1)),
        "w2.weight" => Some(Part {
            whole: whole("down_proj"),
            shape: vec![experts as i64, hidden, inner],
            index: expert,
            count: experts,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(mixture: bool) -> ModelConfig {
        let mut fields = json!({
            "architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": 100,
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 128,
            "hidden_act": "silu", "sliding_window": null, "rope_theta": 1e4
        });
        if mixture {
            fields["architectures"] = json!(["MixtralForCausalLM"]);
            fields["model_type"] = json!("mixtral");
            fields["num_local_experts"] = json!(4);
            fields["num_experts_per_tok"] = json!(2);
        }
        ModelConfig::parse(&fields).unwrap()
    }

    #[test]
    fn wrappers_come_off_wherever_they_stand() {
        let config = config(false);
        let cases = [
            ("_orig_mod.model.norm.weight", "model.norm.weight"),
            ("model.layers.1._orig_mod.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"),
            ("module.module.lm_head.weight", "lm_head.weight"),
            ("_forward_module.model.model.norm.weight", "model.norm.weight"),
            ("model.lm_head.weight", "lm_head.weight"),
            ("layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"),
            ("embed_tokens.weight", "model.embed_tokens.weight"),
            ("norm.weight", "model.norm.weight"),
            ("language_model.model.norm.weight", "model.norm.weight"),
            ("language_model.lm_head.weight", "lm_head.weight"),
            ("model.language_model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
            ("model.language_model.lm_head.weight", "lm_head.weight"),
            ("base_model.model.model.norm.weight", "model.norm.weight"),
            ("pretrained_model._fsdp_wrapped_module.lm_head.weight", "lm_head.weight"),
            // Left as they are, for the message that refuses them.
            ("transformer.h.0.attn.weight", "transformer.h.0.attn.weight"),
            ("model.vision_tower.norm.weight", "model.vision_tower.norm.weight"),
        ];
        for (given, expected) in cases {
            assert_eq!(named(given, &config), Named::Tensor(expected.to_owned()), "{given}");
        }
        for head in ["v_head.summary.bias", "module.score.weight", "pretrained_model.value_head.weight"] {
            assert_eq!(named(head, &config), Named::OtherHead, "{head}");
        }
        for buffer in [
            "model.rotary_emb.inv_freq",
            "rotary_emb.inv_freq",
            "model.layers.3.self_attn.rotary_emb.cos_cached",
        ] {
            assert_eq!(named(buffer, &config), Named::RotaryBuffer, "{buffer}");
        }
    }

    #[test]
    fn every_name_of_a_model_stands_for_itself() {
        for config in [config(false), config(true)] {
            for (name, _) in config.tensors() {
                assert_eq!(named(&name, &config), Named::Tensor(name.clone()));
            }
        }
    }

    #[test]
    fn the_parts_of_fused_experts_cover_them_once() {
        let config = config(true);
        let mut parts: Vec<(String, usize, usize)> = config
            .tensors()
            .iter()
            .filter_map(|(name, shape)| {
                let part = fused(name, &config)?;
                let numbers = |shape: &[i64]| shape.iter().product::<i64>();
                assert_eq!(numbers(shape) * part.count as i64, numbers(&part.shape), "{name}");
                Some((part.whole, part.index, part.count))
            })
            .collect();
        parts.sort();
        let whole = |layer: usize, tensor: &str, count: usize| {
            let name = format!("model.layers.{layer}.block_sparse_moe.experts.{tensor}");
            (0..count).map(move |index| (name.clone(), index, count)).collect::<Vec<_>>()
        };
        let expected = [
            whole(0, "down_proj", 4),
            whole(0, "gate_up_proj", 8),
            whole(1, "down_proj", 4),
            whole(1, "gate_up_proj", 8),
        ];
        assert_eq!(parts, expected.concat());
    }
}
