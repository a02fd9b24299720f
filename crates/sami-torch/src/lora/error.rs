//! What can be wrong with an adapter.

use thiserror::Error;

/// Why an adapter of PEFT cannot be used.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// Another method than LoRA.
    #[error("field \"peft_type\" is {value}; only \"LORA\" is supported")]
    Method {
        /// What the file says.
        value: String,
    },
    /// A field that makes the adapter compute something else.
    #[error(
        "field \"{field}\" is {value}: {does}, which is not supported; if PEFT can merge the adapter into its base, \
         use the merged checkpoint"
    )]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What the file says.
        value: String,
        /// What the field does.
        does: &'static str,
    },
    /// A field that is not known, with a value.
    #[error(
        "field \"{field}\" is {value}; it is not known here (PEFT 0.21.2 is), so what it changes is not known either"
    )]
    Unknown {
        /// The field.
        field: String,
        /// What the file says.
        value: String,
    },
    /// A field with a value that makes no sense.
    #[error("field \"{field}\" is {value}; expected {expected}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What the file says.
        value: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A regular expression that cannot be used.
    #[error("field \"{field}\": the regular expression \"{pattern}\" cannot be used: {reason}")]
    Pattern {
        /// The field.
        field: &'static str,
        /// The expression.
        pattern: String,
        /// What the library says.
        reason: String,
    },
    /// Two entries of a map speak of one module, and say different things.
    #[error("field \"{field}\": two of its patterns match {module} and disagree; leave one of them")]
    Ambiguous {
        /// The field.
        field: &'static str,
        /// The module.
        module: String,
    },
    /// No module of the base has such a name.
    #[error("field \"target_modules\" is {value}, which matches no module of {architecture}")]
    NoModule {
        /// What the file says.
        value: String,
        /// The base's.
        architecture: String,
    },
    /// A matched module has no low-rank form.
    #[error("field \"target_modules\" matches {module}, which is neither a linear map nor the embedding")]
    NotLinear {
        /// The module.
        module: String,
    },
    /// A module that is adapted and saved whole.
    #[error("{module} is matched both by \"target_modules\" and by \"modules_to_save\"")]
    Twice {
        /// The module.
        module: String,
    },
    /// Adapters on experts or router in a form that PEFT 0.21.2 does not convert, or converts to something else.
    #[error("field \"{field}\" reaches the experts or the router of {architecture}: {reason}")]
    Experts {
        /// The field.
        field: &'static str,
        /// The base's.
        architecture: String,
        /// Why not.
        reason: &'static str,
    },
    /// The configuration asks for a tensor that the file lacks.
    #[error("adapter_model.safetensors lacks {tensor}, which adapter_config.json asks for")]
    Lacks {
        /// The tensor.
        tensor: String,
    },
    /// Tensors that the configuration does not explain.
    #[error(
        "adapter_model.safetensors holds {count} tensors that adapter_config.json does not account for, such as {tensor}"
    )]
    Unused {
        /// The first of them.
        tensor: String,
        /// How many.
        count: usize,
    },
    /// A tensor of another shape than the base asks for.
    #[error(
        "tensor {tensor} has shape {got:?}, but with this base and rank it must have {expected:?}; the adapter was \
         made for another base, or for a vocabulary that was resized"
    )]
    Shape {
        /// The tensor.
        tensor: String,
        /// In the file.
        got: Vec<i64>,
        /// By base and configuration.
        expected: Vec<i64>,
    },
    /// Embedding and head are one tensor in the base, and two different ones in the file.
    #[error(
        "the base ties embedding and head, but the adapter brings {embedding} and {head}, which differ; \
         PEFT would use the second for both"
    )]
    Tied {
        /// The embedding's tensor.
        embedding: String,
        /// The head's.
        head: String,
    },
    /// The base is not there.
    #[error("field \"base_model_name_or_path\" is \"{base}\", which is no checkpoint on this machine")]
    NoBase {
        /// What the file says.
        base: String,
    },
    /// Only a pickled file.
    #[error("there is no adapter_model.safetensors here; open the adapter with PEFT and save it again")]
    NoWeights,
    /// Low-rank updates of embedding or head are computed once, while opening.
    #[error(
        "it adapts {module} by a low-rank update, which can be scored, sampled from and merged, but not trained; \
         merge the adapter into a checkpoint and train that"
    )]
    NotTrainable {
        /// The module.
        module: String,
    },
}
