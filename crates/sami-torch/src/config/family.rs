//! The families of one decoder: what each is called, what its configuration means where the file is
//! silent, and what its layers are made of. Everything about a family stands here.

use serde::Serialize;

use super::{ConfigError, fields::Fields, windows::Windows};

/// What differs between the families of one decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Family {
    /// Biases on the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias on the attention's output projection.
    pub output_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// RMSNorm of every query and key head (Qwen3).
    pub qk_norm: bool,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MixtureConfig {
    /// Experts of every layer.
    pub experts: usize,
    /// How many of them each token goes to.
    pub per_token: usize,
}

/// One family, as transformers' configuration class and modeling code define it.
#[derive(Debug)]
pub(super) struct Definition {
    /// What `model_type` says.
    pub(super) model_type: &'static str,
    /// Its classes begin so (`Mistral` of `MistralForCausalLM`); the first is the name of today.
    prefixes: &'static [&'static str],
    pub(super) defaults: Defaults,
    qkv_bias: Bias,
    output_bias: Bias,
    mlp_bias: Bias,
    qk_norm: bool,
    pub(super) windows: Windows,
    /// The mixture where the file is silent; none in a family without experts.
    mixture: Option<MixtureConfig>,
}

/// What a field is where the file does not have it.
#[derive(Debug)]
pub(super) struct Defaults {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) num_key_value_heads: Unsaid,
    pub(super) head_dim: Unsaid,
    pub(super) max_position_embeddings: usize,
    pub(super) rms_norm_eps: f64,
    pub(super) rope_theta: f64,
    pub(super) sliding_window: Option<usize>,
}

/// What a count is where the file does not have it, and where it has a null.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsaid {
    pub(super) absent: Meaning,
    pub(super) null: Meaning,
}

/// What stands in for a count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning {
    /// This number.
    Is(usize),
    /// What the other fields give: as many as query heads, or width / heads.
    Derived,
    /// Nothing: the configuration class takes no null.
    Refused,
}

/// Where a bias comes from.
#[derive(Clone, Copy, Debug)]
enum Bias {
    Never,
    Always,
    /// The flag of this name says it; without the flag there is none.
    Field(&'static str),
}

use Meaning::{Derived, Is, Refused};

const MISTRAL: Definition = Definition {
    model_type: "mistral",
    prefixes: &["Mistral"],
    defaults: Defaults {
        vocab_size: 32_000,
        hidden_size: 4096,
        intermediate_size: 14_336,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        num_key_value_heads: Unsaid { absent: Is(8), null: Refused },
        head_dim: Unsaid { absent: Derived, null: Derived },
        max_position_embeddings: 131_072,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        sliding_window: Some(4096),
    },
    qkv_bias: Bias::Never,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    qk_norm: false,
    windows: Windows::EveryLayer,
    mixture: None,
};

/// Mistral whose layers may differ.
const MINISTRAL: Definition =
    Definition { model_type: "ministral", prefixes: &["Ministral"], windows: Windows::ByList, ..MISTRAL };

const MIXTRAL: Definition = Definition {
    model_type: "mixtral",
    prefixes: &["Mixtral"],
    defaults: Defaults { rms_norm_eps: 1e-5, rope_theta: 1e6, sliding_window: None, ..MISTRAL.defaults },
    mixture: Some(MixtureConfig { experts: 8, per_token: 2 }),
    ..MISTRAL
};

const LLAMA: Definition = Definition {
    model_type: "llama",
    prefixes: &["Llama", "LLaMA"],
    defaults: Defaults {
        intermediate_size: 11_008,
        num_key_value_heads: Unsaid { absent: Derived, null: Derived },
        max_position_embeddings: 2048,
        sliding_window: None,
        ..MISTRAL.defaults
    },
    qkv_bias: Bias::Field("attention_bias"),
    output_bias: Bias::Field("attention_bias"),
    mlp_bias: Bias::Field("mlp_bias"),
    windows: Windows::Never,
    ..MISTRAL
};

const QWEN2: Definition = Definition {
    model_type: "qwen2",
    prefixes: &["Qwen2"],
    defaults: Defaults {
        vocab_size: 151_936,
        intermediate_size: 22_016,
        num_key_value_heads: Unsaid { absent: Is(32), null: Derived },
        head_dim: Unsaid { absent: Derived, null: Refused },
        max_position_embeddings: 32_768,
        ..MISTRAL.defaults
    },
    qkv_bias: Bias::Always,
    windows: Windows::ByListUnderFlag,
    ..MISTRAL
};

const QWEN3: Definition = Definition {
    model_type: "qwen3",
    prefixes: &["Qwen3"],
    defaults: Defaults { head_dim: Unsaid { absent: Is(128), null: Refused }, ..QWEN2.defaults },
    qkv_bias: Bias::Field("attention_bias"),
    output_bias: Bias::Field("attention_bias"),
    qk_norm: true,
    ..QWEN2
};

static FAMILIES: [Definition; 6] = [MISTRAL, MINISTRAL, MIXTRAL, LLAMA, QWEN2, QWEN3];

const KNOWN_TYPES: &str = "known are mistral, ministral, mixtral, llama, qwen2 and qwen3";
const KNOWN_CLASSES: &str = "known are the classes ...ForCausalLM and ...Model of Mistral, Ministral, Mixtral, Llama, \
                             Qwen2 and Qwen3";

/// What a class adds to the decoder, by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The language model, or the decoder alone.
    Language,
    /// A classifier, whose head gives no probabilities of tokens.
    Classifier,
}

const ROLES: [(&str, Role); 4] = [
    ("ForCausalLM", Role::Language),
    ("Model", Role::Language),
    ("ForSequenceClassification", Role::Classifier),
    ("ForTokenClassification", Role::Classifier),
];

impl Definition {
    /// The family that `model_type` and `architectures` name. Either is enough; two that disagree
    /// are refused, since transformers goes by the one and other programs by the other.
    pub(super) fn of(fields: &Fields<'_>) -> Result<(&'static Self, Role), ConfigError> {
        let by_type = fields.text("model_type")?.map(|name| Self::of_type(name, fields)).transpose()?;
        let by_class = fields.first_text("architectures")?.map(Self::of_class).transpose()?;
        match (by_type, by_class) {
            (Some(family), Some((class, _))) if family.model_type != class.model_type => {
                Err(fields.invalid("model_type", "the family that architectures names"))
            }
            (Some(family), by_class) => Ok((family, by_class.map_or(Role::Language, |(_, role)| role))),
            (None, Some(by_class)) => Ok(by_class),
            (None, None) => Err(ConfigError::Missing { field: "architectures".into() }),
        }
    }

    fn of_type(name: &str, fields: &Fields<'_>) -> Result<&'static Self, ConfigError> {
        let known = FAMILIES.iter().find(|family| family.model_type == name);
        known.ok_or_else(|| fields.unsupported("model_type", KNOWN_TYPES))
    }

    fn of_class(name: &str) -> Result<(&'static Self, Role), ConfigError> {
        let families = FAMILIES.iter().flat_map(|family| family.prefixes.iter().map(move |p| (family, p)));
        let role = |rest: &str| ROLES.iter().find(|(end, _)| *end == rest).map(|(_, role)| *role);
        families
            .filter_map(|(family, prefix)| Some((family, role(name.strip_prefix(prefix)?)?)))
            .next()
            .ok_or_else(|| ConfigError::Unsupported {
                field: "architectures".into(),
                value: format!("\"{name}\""),
                why: KNOWN_CLASSES,
            })
    }

    /// The class of its language models, such as `MistralForCausalLM`.
    pub(super) fn architecture(&self) -> String {
        format!("{}ForCausalLM", self.prefixes.first().copied().unwrap_or_default())
    }

    /// What the layers have.
    pub(super) fn layers(&self, fields: &Fields<'_>) -> Result<Family, ConfigError> {
        let bias = |bias: Bias| match bias {
            Bias::Never => Ok(false),
            Bias::Always => Ok(true),
            Bias::Field(field) => fields.flag_or(field, false),
        };
        Ok(Family {
            qkv_bias: bias(self.qkv_bias)?,
            output_bias: bias(self.output_bias)?,
            mlp_bias: bias(self.mlp_bias)?,
            qk_norm: self.qk_norm,
        })
    }

    /// The experts, in a family that has some.
    pub(super) fn mixture(&self, fields: &Fields<'_>) -> Result<Option<MixtureConfig>, ConfigError> {
        let Some(default) = self.mixture else { return Ok(None) };
        // transformers keeps both names for one number, and the short one is set last.
        let name = if fields.has("num_experts") { "num_experts" } else { "num_local_experts" };
        let experts = fields.count_or(name, default.experts)?;
        let per_token = fields.count_or("num_experts_per_tok", default.per_token)?;
        if per_token > experts {
            return Err(fields.invalid_or("num_experts_per_tok", per_token, "at most the number of experts"));
        }
        Ok(Some(MixtureConfig { experts, per_token }))
    }
}
