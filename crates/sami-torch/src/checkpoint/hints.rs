//! What names that do not fit look like, and what to do about them.

use crate::config::ModelConfig;

/// Marks in names that nothing here knows, and what they mean.
const MARKS: [(&[&str], &str); 5] = [
    (
        &[".lora_A.", ".lora_B.", ".base_layer."],
        "these are adapters beside the weights that they change; merge them (PEFT's merge_and_unload) and save again",
    ),
    (
        &[
            ".qweight",
            ".qzeros",
            ".weight_scale",
            ".weight_scale_inv",
            ".weight_packed",
            ".absmax",
            ".SCB",
            ".quant_state",
        ],
        "these weights are quantised; take the checkpoint that they were made from",
    ),
    (
        &["vision_tower.", "vision_model.", "visual.", "multi_modal_projector."],
        "this is a model of images and text; save its language model alone",
    ),
    (
        &["tok_embeddings.", ".attention.wq.", ".feed_forward.w1."],
        "these are the names of Meta's and Mistral's own files; take the same model in the layout of transformers",
    ),
    (
        &[".qkv_proj.", ".Wqkv.", ".W_pack.", ".wqkv.", ".gate_up_proj."],
        "projections are joined in one tensor here; take a checkpoint that keeps them apart, as transformers does",
    ),
];

/// One sentence, or none. `missing` are the model's names, `unexpected` those in the files.
pub(super) fn hint(missing: &[String], unexpected: &[String], config: &ModelConfig) -> String {
    let marked = |marks: &[&str]| unexpected.iter().any(|name| marks.iter().any(|mark| name.contains(mark)));
    if let Some((_, what)) = MARKS.iter().find(|(marks, _)| marked(marks)) {
        return (*what).to_owned();
    }
    if let Some(prefix) = prefix(missing, unexpected) {
        let count = unexpected.iter().filter(|name| name.starts_with(&prefix)).count();
        return format!("{count} of those not known begin with \"{prefix}\"; rename the tensors without it");
    }
    let layers = unexpected.iter().filter_map(|name| layer(name)).map(|layer| layer + 1).max();
    match layers {
        Some(layers) if layers > config.num_hidden_layers => format!(
            "the files hold {layers} layers, but config.json says num_hidden_layers {}",
            config.num_hidden_layers
        ),
        _ => String::new(),
    }
}

/// What stands before a missing tensor's own name in the files.
fn prefix(missing: &[String], unexpected: &[String]) -> Option<String> {
    let found = unexpected.iter().find_map(|name| {
        missing.iter().find_map(|wanted| {
            let short = wanted.strip_prefix("model.").unwrap_or(wanted);
            let before = name.strip_suffix(wanted.as_str()).or_else(|| name.strip_suffix(short))?;
            // At the border of a component: "my_lm_head.weight" is no prefixed head.
            (before.len() > 1 && before.ends_with('.')).then(|| before.to_owned())
        })
    });
    found.filter(|prefix| prefix != "model.")
}

/// N of "….layers.N.…".
fn layer(name: &str) -> Option<usize> {
    name.split_once("layers.")?.1.split('.').next()?.parse().ok()
}
