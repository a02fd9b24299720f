//! What the engine will hold at once, from the shapes alone.
//!
//! Exact where tensors live through the whole work (weights, gradients, optimizer state, kept inputs of layers, caches).
//! What comes and goes within a layer and within the head is counted as the code keeps it alive there; the two follow each
//! other, but allocators keep the blocks of the first while the second asks for other sizes, so they add up. Peaks of
//! training runs of 58 million parameters lay between 10 % below and 5 % above.

use super::Work;
use crate::config::ModelConfig;
use crate::head::CHUNK_ELEMENTS;
use crate::options::{Dtype, EngineOptions, OptimizerKind, Precision};
use crate::pass::shares;

/// LibTorch's code and thread pools, the program, tokenizer and texts.
const RUNTIME_CPU: f64 = 210e6;
/// The CUDA context and cuBLAS's workspaces.
const RUNTIME_CUDA: f64 = 700e6;
/// Bytes by what they are for.
pub(super) struct Estimate {
    pub(super) weights: f64,
    pub(super) remainder: f64,
    pub(super) reference: f64,
    pub(super) gradients: f64,
    pub(super) optimizer: f64,
    /// Inputs of all layers, or all their activations.
    pub(super) kept: f64,
    /// One layer forward and backward.
    pub(super) layer: f64,
    /// One chunk of logits with its gradient, and the head's own gradient.
    pub(super) head: f64,
    /// Keys and values of generation.
    pub(super) cache: f64,
    pub(super) runtime: f64,
}

impl Estimate {
    /// `tokens` go through the layers at once, in rows (or sequences) of `length`.
    pub(super) fn new(
        config: &ModelConfig,
        options: &EngineOptions,
        work: Work,
        tokens: usize,
        length: usize,
    ) -> Self {
        let update = work == Work::Train;
        let train = update || work == Work::Gradient;
        let parameters = config.parameters() as f64;
        let adapters = options.lora.as_ref().map(|lora| lora.size(config) as f64);
        let trained = adapters.unwrap_or(parameters);
        let element = bytes(options.dtype);
        let exact = options.precision == Precision::Exact;
        let wide = if exact { 4.0 } else { element };
        let states = match options.optimizer.kind {
            OptimizerKind::AdamW => 2.0,
            OptimizerKind::RmsProp => 1.0,
        };
        let only = |when: bool, bytes: f64| if when { bytes } else { 0.0 };
        let layers = config.num_hidden_layers as f64;

        let arithmetic = options.arithmetic();
        let shape = Shape::new(config, arithmetic);
        // Weights that are widened while they are used, all layers' where their graphs are kept.
        let widened = if arithmetic == options.dtype { 0.0 } else { bytes(arithmetic) };
        let shares = match options.device {
            crate::options::Device::Cpu => {
                shares(config, usize::try_from(tch::get_num_threads()).unwrap_or(1))
            }
            crate::options::Device::Cuda(_) => 1,
        } as f64;
        let layers_widened = if train && !options.recompute { layers } else { 1.0 };
        let head_parameters = config.vocab_size as f64 * shape.hidden;
        let layer_parameters = config.layer_parameters() as f64;
        // Each share has its own, until they are added up.
        let layer_gradients = only(train && adapters.is_none(), 4.0);
        let beside = shares * layer_parameters * (widened * layers_widened + layer_gradients);
        let (tokens, length) = (tokens as f64, length as f64);
        let graph = tokens * (shape.saved_per_token() + shape.attention_per_token(length));
        let (kept, layer) = match work {
            Work::Gradient | Work::Train if options.recompute => {
                (layers * tokens * shape.hidden * shape.element, graph + tokens * shape.backward_per_token())
            }
            // The last layer computes responses alone.
            Work::Gradient | Work::Train => {
                ((layers - 0.75).max(0.25) * graph, tokens * shape.backward_per_token())
            }
            Work::Score | Work::Sample => (0.0, tokens * shape.forward_per_token()),
        };
        let vocab = config.vocab_size as f64;
        let rows = (CHUNK_ELEMENTS as f64 / vocab).max(1.0).min(tokens);
        let slots = options.generation_batch as f64;
        let head = match work {
            // Logits, what their sum of exponentials is made of (or, in place, their gradient), and its rounded copy; a KL term has the
            // reference's beside them. The head's own gradient is added in place, where it has the numbers of the sum.
            Work::Gradient | Work::Train => {
                rows * vocab
                    * (4.0 + only(options.keep_reference, 8.0) + only(shape.element < 4.0, shape.element))
                    + only(shape.element < wide, vocab * shape.hidden * shape.element)
            }
            Work::Score => rows * vocab * (4.0 + 4.0 + only(shape.element < 4.0, shape.element)),
            // Logits, their probabilities, and the order of a nucleus.
            Work::Sample => slots * vocab * (4.0 + 4.0 + 8.0),
        };
        let per_place = 2.0 * shape.key_value * shape.element;
        // A decoding step lays the keys and values of one layer out anew.
        let cache = only(work == Work::Sample, slots * length * per_place * (layers + 1.0));
        Self {
            weights: (parameters + adapters.unwrap_or(0.0)) * element,
            remainder: only(update && exact && options.dtype == Dtype::Bf16, trained * 2.0),
            // Frozen weights are their own reference.
            reference: only(train && options.keep_reference && adapters.is_none(), parameters * element),
            gradients: only(train, trained * wide),
            optimizer: only(update, trained * wide * states),
            kept,
            layer: layer + beside,
            head: head + widened * head_parameters,
            cache,
            runtime: match options.device {
                crate::options::Device::Cpu => RUNTIME_CPU,
                crate::options::Device::Cuda(_) => RUNTIME_CUDA,
            },
        }
    }

    /// All of it together.
    pub(super) fn peak(&self) -> f64 {
        self.runtime
            + self.weights
            + self.remainder
            + self.reference
            + self.gradients
            + self.optimizer
            + self.kept
            + self.layer
            + self.head
            + self.cache
    }
}

pub(super) fn bytes(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 4.0,
        Dtype::Bf16 => 2.0,
    }
}

/// Widths of one layer, and the bytes that a token costs in it.
struct Shape {
    hidden: f64,
    query: f64,
    key_value: f64,
    /// Of all the experts that a token goes to.
    inner: f64,
    /// What goes to experts and comes back.
    routed: f64,
    heads: f64,
    element: f64,
}

impl Shape {
    fn new(config: &ModelConfig, dtype: Dtype) -> Self {
        Self {
            hidden: config.hidden_size as f64,
            query: (config.num_attention_heads * config.head_dim) as f64,
            key_value: (config.num_key_value_heads * config.head_dim) as f64,
            inner: (config.intermediate_size * config.mixture.map_or(1, |mixture| mixture.per_token)) as f64,
            routed: config.mixture.map_or(0.0, |mixture| (2 * mixture.per_token * config.hidden_size) as f64),
            heads: config.num_attention_heads as f64,
            element: bytes(dtype),
        }
    }

    /// What autograd keeps of a layer, attention scores apart.
    fn saved_per_token(&self) -> f64 {
        // Two norms: the scaled input in f32, and rounded, and times the weight; in bf16 also the input in f32.
        let norms = 2.0 * self.hidden * if self.element < 4.0 { 4.0 + 4.0 + 2.0 * self.element } else { 8.0 };
        // Projections, rotated queries and keys, what is attended (laid out twice), the residual sums.
        let attention = 4.0 * self.query + 3.0 * self.key_value + 2.0 * self.hidden;
        let mlp = 4.0 * self.inner + 2.0 * self.hidden + self.routed;
        norms + (attention + mlp) * self.element
    }

    /// Probabilities in f32, and rounded. Half of a prefix's square is never computed.
    fn attention_per_token(&self, length: f64) -> f64 {
        let rounded = if self.element < 4.0 { self.element } else { 0.0 };
        self.heads * 0.55 * length * (4.0 + rounded)
    }

    /// Gradients that are alive together at the widest place of the backward pass.
    fn backward_per_token(&self) -> f64 {
        (3.0 * self.inner + 2.0 * self.hidden) * self.element
    }

    /// The widest place of a forward pass without a graph.
    fn forward_per_token(&self) -> f64 {
        (3.0 * self.inner + 3.0 * self.hidden)
            .max(3.0 * self.query + 2.0 * self.key_value + 3.0 * self.hidden)
            * self.element
    }
}
