//! The LibTorch policy: samples, scores and trains one checkpoint.

use std::path::{Path, PathBuf};

use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, ContrastPolicy, ContrastSet, GradientOf, PolicyProvider, Sample,
    SampleRequest, Sampler, SamplingParams, SetLogps, Start, TrainablePolicy, UpdateReport,
};
use tch::{Kind, Tensor, no_grad};

use crate::backward::Gradients;
use crate::chat::{ChatError, ChatTemplate};
use crate::checkpoint::{
    CheckpointReader, CheckpointWriter, StateReader, Stored, fill_directory, save_tensors,
};
use crate::config::ModelConfig;
use crate::contrast::{Plan, TokenisedSet, contrast_step, score};
use crate::device::to_tch;
use crate::error::{Error, Result};
use crate::generate::{Prompt, generate};
use crate::language::{LmExample, LmLoss, language_model};
use crate::model::Model;
use crate::optimizer::Optimizer;
use crate::options::{Dtype, EngineOptions, Precision};
use crate::tokenizer::Tokenizer;

const STATE_FILE: &str = "trainer.safetensors";

/// A causal language model on LibTorch with its tokenizer: a [`Sampler`], a [`ContrastPolicy`] and a [`TrainablePolicy`].
pub struct TorchPolicy {
    model: Model,
    /// The frozen model that the KL is measured against.
    reference: Option<Model>,
    tokenizer: Tokenizer,
    chat_template: Option<ChatTemplate>,
    options: EngineOptions,
    writer: CheckpointWriter,
    gradients: Gradients,
    /// What loading in bf16 rounded away, until the optimizer takes it.
    remainders: Vec<Option<Tensor>>,
    optimizer: Option<Optimizer>,
    boundary_merges: usize,
}

impl TorchPolicy {
    /// Opens a Hugging Face directory: config, weights and tokenizer, each checked.
    pub fn open(dir: &Path, options: &EngineOptions) -> Result<Self> {
        options.check()?;
        let device = to_tch(options.device)?;
        let config = ModelConfig::read(dir)?;
        let tokenizer = Tokenizer::open(dir)?;
        let chat_template = ChatTemplate::open(dir)?;
        let reader = CheckpointReader::open(dir, &config)?;
        tracing::debug!(dir = %dir.display(), bytes = reader.bytes(), "loading weights");
        let (mut model, remainders) = Model::load(config, &reader, device, options.dtype.kind())?;
        model.set_requires_grad(true)?;
        let kind = match options.precision {
            Precision::Exact => Kind::Float,
            Precision::Bf16Pure => options.dtype.kind(),
        };
        Ok(Self {
            gradients: Gradients::new(model.parameters.len(), kind),
            writer: CheckpointWriter::new(dir, reader.layout()),
            model,
            reference: None,
            tokenizer,
            chat_template,
            options: options.clone(),
            remainders,
            optimizer: None,
            boundary_merges: 0,
        })
    }

    /// Keeps the checkpoint in `dir` as the frozen reference: from now on [`ContrastPolicy::contrast_step`] reports the KL to it,
    /// and takes gradients with a KL term. The two must have one architecture.
    pub fn with_reference(mut self, dir: &Path) -> Result<Self> {
        let config = ModelConfig::read(dir)?;
        if config.tensors() != self.model.config.tensors() {
            return Err(Error::Reference { dir: dir.to_owned() });
        }
        let reader = CheckpointReader::open(dir, &config)?;
        let (model, _) = Model::load(config, &reader, self.model.device(), self.model.kind())?;
        self.reference = Some(model);
        Ok(self)
    }

    /// The checked architecture.
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    /// The checkpoint's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The checkpoint's chat template; a base model has none.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// Tokens of a conversation, up to where the assistant's answer begins.
    pub fn encode_chat(&self, messages: &[ChatMessage], what: &str) -> Result<Vec<u32>> {
        let Some(template) = &self.chat_template else {
            return Err(Error::Chat { path: self.writer.source().to_owned(), source: ChatError::NoTemplate });
        };
        self.tokenizer.encode_rendered(&template.render(messages, true)?, what)
    }

    /// Entries scored so far whose jointly tokenised prompt + response does not begin with the prompt's own tokens: a
    /// token was merged across the boundary, and what is counted begins at the prompt's length all the same.
    pub fn boundary_merges(&self) -> usize {
        self.boundary_merges
    }

    /// Full logits after every token of one prompt: `[tokens][vocab]`, for inspection and parity checks.
    pub fn prompt_logits(&mut self, prompt: &str) -> Result<Vec<Vec<f32>>> {
        let ids = self.tokenizer.encode_prompt(prompt, "the prompt")?;
        crate::contrast::check_sequence(&ids, &self.model, || "the prompt".into())?;
        let logits = crate::generate::prompt_logits(&self.model, &ids)?;
        let vocab = self.model.config.vocab_size;
        let flat = Vec::<f32>::try_from(logits.f_to_device(tch::Device::Cpu)?.f_contiguous()?.f_view([-1])?)?;
        Ok(flat.chunks_exact(vocab).map(<[f32]>::to_vec).collect())
    }

    /// Gradients accumulated since the last step, by parameter name and in the order of the forward pass; flattened, f32.
    pub fn gradients(&self) -> Result<Vec<(String, Vec<f32>)>> {
        self.model
            .parameters
            .iter()
            .enumerate()
            .map(|(index, parameter)| {
                let values = match self.gradients.get(index) {
                    Some(grad) => flat_f32(grad)?,
                    None => vec![0.0; parameter.tensor.numel()],
                };
                Ok((parameter.name.clone(), values))
            })
            .collect()
    }

    /// The weights that the forward pass uses, by parameter name; flattened, f32.
    pub fn weights(&self) -> Result<Vec<(String, Vec<f32>)>> {
        self.model.parameters.iter().map(|p| Ok((p.name.clone(), flat_f32(&p.tensor)?))).collect()
    }

    /// Adds the gradient of the mean −log π over all counted tokens of these texts (nats per token) to what has been accumulated since
    /// the last update: pretraining and fine-tuning on plain text. [`TrainablePolicy::optimizer_step`] follows.
    pub fn lm_step(&mut self, examples: &[LmExample]) -> Result<LmLoss> {
        language_model(&self.model, self.plan(), examples, Some(&mut self.gradients))
    }

    /// The loss of [`TorchPolicy::lm_step`] without a gradient.
    pub fn lm_loss(&self, examples: &[LmExample]) -> Result<LmLoss> {
        language_model(&self.model, self.plan(), examples, None)
    }

    fn generate(&self, prompts: Vec<Prompt>, params: &SamplingParams) -> Result<Vec<Sample>> {
        let EngineOptions { generation_batch, token_budget, .. } = self.options;
        generate(&self.model, &self.tokenizer, generation_batch, token_budget, prompts, params)
    }

    fn plan(&self) -> Plan {
        Plan { token_budget: self.options.token_budget, recompute: self.options.recompute }
    }

    fn tokenise(&mut self, sets: &[ContrastSet]) -> Result<Vec<TokenisedSet>> {
        let sets: Vec<TokenisedSet> = sets
            .iter()
            .map(|set| TokenisedSet::new(set, &self.tokenizer, &self.model))
            .collect::<Result<_>>()?;
        let merges: usize = sets.iter().map(|set| set.boundary_merges).sum();
        if merges > 0 {
            tracing::debug!(merges, "tokens were merged across the boundary between prompt and response");
        }
        self.boundary_merges += merges;
        Ok(sets)
    }

    fn optimizer(&mut self) -> Result<&mut Optimizer> {
        if self.optimizer.is_none() {
            let remainders = std::mem::take(&mut self.remainders);
            let EngineOptions { optimizer, precision, .. } = self.options;
            self.optimizer = Some(Optimizer::new(optimizer, precision, &self.model.parameters, remainders)?);
        }
        self.optimizer
            .as_mut()
            .ok_or(Error::Option { option: "optimizer", reason: "its state could not be made".into() })
    }

    fn exact(&self, index: usize) -> Stored {
        let weight = &self.model.parameters[index].tensor;
        match (&self.optimizer, self.remainders.get(index)) {
            (Some(optimizer), _) => optimizer.exact(index, weight),
            (None, Some(Some(remainder))) => {
                Stored::Split { weight: weight.shallow_clone(), remainder: remainder.shallow_clone() }
            }
            _ => Stored::Plain(weight.shallow_clone()),
        }
    }
}

fn flat_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.f_detach()?.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?;
    Ok(Vec::<f32>::try_from(tensor.f_contiguous()?.f_view([-1])?)?)
}

impl Sampler for TorchPolicy {
    type Error = Error;

    fn sample(&mut self, requests: &[SampleRequest], params: &SamplingParams) -> Result<Vec<Sample>> {
        let encode = |(index, request): (usize, &SampleRequest)| {
            let ids = self.tokenizer.encode_prompt(&request.prompt, &format!("prompt {index}"))?;
            Ok(Prompt { ids, stream: request.stream })
        };
        self.generate(requests.iter().enumerate().map(encode).collect::<Result<_>>()?, params)
    }
}

impl ChatSampler for TorchPolicy {
    fn has_chat_format(&self) -> bool {
        self.chat_template.is_some()
    }

    fn sample_chat(&mut self, requests: &[ChatRequest], params: &SamplingParams) -> Result<Vec<Sample>> {
        let encode = |(index, request): (usize, &ChatRequest)| {
            let ids = self.encode_chat(&request.messages, &format!("conversation {index}"))?;
            Ok(Prompt { ids, stream: request.stream })
        };
        self.generate(requests.iter().enumerate().map(encode).collect::<Result<_>>()?, params)
    }
}

impl ContrastPolicy for TorchPolicy {
    type Error = Error;

    fn score(&mut self, sets: &[ContrastSet]) -> Result<Vec<SetLogps>> {
        let sets = self.tokenise(sets)?;
        score(&self.model, self.plan(), &sets)
    }

    fn contrast_step(
        &mut self,
        sets: &[ContrastSet],
        gradient: &mut GradientOf<'_>,
    ) -> Result<Vec<SetLogps>> {
        let sets = self.tokenise(sets)?;
        contrast_step(&self.model, self.reference.as_ref(), self.plan(), &sets, gradient, &mut self.gradients)
    }
}

impl TrainablePolicy for TorchPolicy {
    fn optimizer_step(&mut self, lr_factor: f64) -> Result<UpdateReport> {
        if !(lr_factor.is_finite() && lr_factor >= 0.0) {
            let reason = format!("{lr_factor}; it must be 0 or a positive number");
            return Err(Error::Option { option: "lr_factor", reason });
        }
        self.optimizer()?;
        let Some(optimizer) = self.optimizer.as_mut() else { return Ok(UpdateReport::default()) };
        let report = optimizer.step(&self.model.parameters, &mut self.gradients, lr_factor)?;
        self.gradients.clear();
        Ok(report)
    }

    fn save(&self, dir: &Path) -> Result<()> {
        let dtype = self.options.save_dtype.unwrap_or(match self.options.precision {
            Precision::Exact => Dtype::F32,
            Precision::Bf16Pure => self.options.dtype,
        });
        self.writer.write(dir, dtype, |name| {
            let index = self.model.parameters.iter().position(|parameter| parameter.name == name);
            Ok(index.map(|index| match dtype {
                // The forward weight is the exact one rounded to nearest.
                Dtype::Bf16 => Stored::Plain(self.model.parameters[index].tensor.shallow_clone()),
                Dtype::F32 => self.exact(index),
            }))
        })
    }

    fn save_state(&self, dir: &Path) -> Result<()> {
        let Some(optimizer) = &self.optimizer else {
            return Err(Error::Option {
                option: "save_state",
                reason: "there is no training state before the first optimizer step".into(),
            });
        };
        fill_directory(dir, |dir| {
            save_tensors(&dir.join(STATE_FILE), optimizer.save(&self.model.parameters)?, None, &[])
        })
    }

    fn load_state(&mut self, dir: &Path) -> Result<()> {
        self.optimizer()?;
        let reader = StateReader::open(&dir.join(STATE_FILE))?;
        self.gradients.clear();
        match self.optimizer.as_mut() {
            Some(optimizer) => optimizer.load(&self.model.parameters, &reader),
            None => Ok(()),
        }
    }
}

/// Opens [`TorchPolicy`]s on one base checkpoint for the driver.
#[derive(Clone, Debug)]
pub struct TorchProvider {
    base: PathBuf,
    options: EngineOptions,
}

impl TorchProvider {
    /// Checks the options and the base's configuration, without loading weights.
    pub fn new(base: &Path, options: EngineOptions) -> Result<Self> {
        options.check()?;
        ModelConfig::read(base)?;
        Ok(Self { base: base.to_owned(), options })
    }

    fn open(&self, start: Start<'_>) -> Result<TorchPolicy> {
        match start {
            Start::Base => TorchPolicy::open(&self.base, &self.options),
            Start::Checkpoint(dir) => TorchPolicy::open(dir, &self.options),
        }
    }
}

impl PolicyProvider for TorchProvider {
    type Sampler = TorchPolicy;
    type Policy = TorchPolicy;

    fn sampler(&self, start: Start<'_>) -> Result<TorchPolicy> {
        no_grad(|| self.open(start))
    }

    fn policy(&self, start: Start<'_>) -> Result<TorchPolicy> {
        let policy = self.open(start)?;
        if self.options.keep_reference { policy.with_reference(&self.base) } else { Ok(policy) }
    }
}
