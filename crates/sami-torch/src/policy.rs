//! The LibTorch policy: samples, scores and trains one checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, ContrastPolicy, ContrastSet, GradientOf, PolicyProvider, Refusal,
    Sample, SampleRequest, Sampler, SamplingParams, SetLogps, Start, TrainablePolicy, UpdateReport,
};
use tch::{Kind, Tensor, no_grad};

use crate::chat::{ChatError, ChatTemplate};
use crate::checkpoint::{
    CheckpointReader, CheckpointWriter, StateReader, Stored, fill_directory, save_tensors,
};
use crate::config::ModelConfig;
use crate::contrast::{TokenisedSet, contrast_step, score};
use crate::crew::Crew;
use crate::device::to_tch;
use crate::error::{Error, Result};
use crate::generate::{Prompt, generate};
use crate::gradients::Gradients;
use crate::language::{LmExample, LmLoss, language_model};
use crate::lora::{AdapterFiles, LoraConfig, adapter_names};
use crate::model::{DropoutSeed, Kinds, Model};
use crate::optimizer::{Optimizer, split};
use crate::options::{Dtype, EngineOptions, Precision};
use crate::pass::Plan;
use crate::plan::{Budgets, MemoryPlan, Work, free_memory, plan_memory};
use crate::tokenizer::Tokenizer;

const STATE_FILE: &str = "trainer.safetensors";

/// A causal language model on LibTorch with its tokenizer: a [`Sampler`], a [`ContrastPolicy`] and a [`TrainablePolicy`].
pub struct TorchPolicy {
    /// Where the (frozen or trained) weights came from.
    base: PathBuf,
    lora: Option<LoraConfig>,
    model: Model,
    crew: Arc<Crew>,
    /// The frozen model that the KL is measured against.
    reference: Option<Model>,
    tokenizer: Tokenizer,
    chat_template: Option<ChatTemplate>,
    options: EngineOptions,
    budgets: Budgets,
    writer: CheckpointWriter,
    gradients: Gradients,
    /// What loading in bf16 rounded away, until the optimizer takes it.
    remainders: Vec<Option<Tensor>>,
    optimizer: Option<Optimizer>,
    boundary_merges: usize,
}

impl TorchPolicy {
    /// Opens a Hugging Face directory, config, weights and tokenizer each checked; or an adapter's directory, whose base is
    /// where its configuration says. Refuses at once what cannot be scored in the memory that is free.
    pub fn open(dir: &Path, options: &EngineOptions) -> Result<Self> {
        match AdapterFiles::open(dir)? {
            Some(adapter) => {
                let base = adapter.base.clone();
                if !base.join("config.json").is_file() {
                    let reason = format!("{} is no checkpoint on this machine", base.display());
                    let path = dir.join(crate::lora::CONFIG);
                    return Err(Error::Adapter { path, field: "base_model_name_or_path", reason });
                }
                Self::open_adapter(&base, adapter, options)
            }
            None => {
                let mut policy = Self::open_full(dir, options)?;
                if let Some(lora) = options.lora.clone() {
                    policy.attach(lora, None)?;
                }
                policy.model.track_gradients()?;
                Ok(policy)
            }
        }
    }

    fn open_adapter(base: &Path, adapter: AdapterFiles, options: &EngineOptions) -> Result<Self> {
        let mut policy = Self::open_full(base, options)?;
        // The seed of dropout is no part of PEFT's format.
        let seed = options.lora.as_ref().map_or(0, |lora| lora.seed);
        policy.attach(LoraConfig { seed, ..adapter.lora }, Some(&adapter.weights))?;
        policy.model.track_gradients()?;
        Ok(policy)
    }

    fn open_full(dir: &Path, options: &EngineOptions) -> Result<Self> {
        options.check()?;
        let device = to_tch(options.device)?;
        let config = ModelConfig::read(dir)?;
        let free = free_memory(options.device);
        MemoryPlan::new(&config, options, Work::Score, None, free.clone()).check(options)?;
        let budgets = Budgets::new(&config, options, free);
        let tokenizer = Tokenizer::open(dir)?;
        let chat_template = ChatTemplate::open(dir)?;
        let reader = CheckpointReader::open(dir, &config)?;
        tracing::debug!(dir = %dir.display(), bytes = reader.bytes(), "loading weights");
        let (model, remainders) = Model::load(config, &reader, device, kinds(options))?;
        let kind = match options.precision {
            Precision::Exact => Kind::Float,
            Precision::Bf16Pure => options.dtype.kind(),
        };
        Ok(Self {
            gradients: Gradients::new(model.parameters.len(), kind),
            writer: CheckpointWriter::new(dir, reader.layout()),
            base: dir.to_owned(),
            lora: None,
            crew: Arc::new(Crew::new(device)?),
            model,
            reference: None,
            tokenizer,
            chat_template,
            options: options.clone(),
            budgets,
            remainders,
            optimizer: None,
            boundary_merges: 0,
        })
    }

    /// Puts adapters on the weights, which are frozen from then on.
    fn attach(&mut self, lora: LoraConfig, from: Option<&StateReader>) -> Result<()> {
        let (device, kind) = (self.model.device(), self.model.kinds().weights);
        let adapters = lora.parameters(&self.model.config, from, device, kind)?;
        self.remainders.extend(adapters.iter().map(|_| None));
        let model = self.model.without_adapters()?;
        self.model = model.with_adapters(&lora, adapters)?;
        self.gradients = Gradients::new(self.model.parameters.len(), self.gradients.kind());
        self.lora = Some(lora);
        Ok(())
    }

    /// The same policy with its adapters added to the weights: a plain checkpoint again. Without adapters nothing changes.
    pub fn merge_adapters(mut self) -> Result<Self> {
        let Some(lora) = self.lora.take() else { return Ok(self) };
        no_grad(|| -> Result<()> {
            for index in 0..self.model.parameters.len() {
                let name = self.model.parameters[index].name.clone();
                let Some(module) = name.strip_suffix(".weight").map(adapter_names) else { continue };
                let [Some(down), Some(up)] = module.map(|name| self.model.position(&name)) else { continue };
                let wide =
                    |index: usize| self.exact(index).tensor()?.f_to_kind(Kind::Float).map_err(Error::from);
                let update = wide(up)?.f_mm(&wide(down)?)?.f_mul_scalar(lora.scale())?;
                let merged = wide(index)?.f_add(&update)?;
                let mut weight = self.model.parameters[index].tensor.f_detach()?;
                if weight.kind() == Kind::BFloat16 {
                    let (high, low) = split(&merged)?;
                    weight.f_copy_(&high)?;
                    self.remainders[index] = Some(low);
                } else {
                    weight.f_copy_(&merged)?;
                }
            }
            Ok(())
        })?;
        let mut model = self.model.without_adapters()?;
        for parameter in &mut model.parameters {
            parameter.trainable = true;
        }
        self.remainders.truncate(model.parameters.len());
        self.gradients = Gradients::new(model.parameters.len(), self.gradients.kind());
        self.optimizer = None;
        self.model = model.reassembled()?;
        self.model.track_gradients()?;
        Ok(self)
    }

    /// The same policy, whose weights are saved in files of at most `max_bytes` each; a larger tensor has a file of its own.
    pub fn reshard(mut self, max_bytes: usize) -> Self {
        let width = self.save_dtype().kind().elt_size_in_bytes();
        let model = &self.model;
        self.writer.reshard(max_bytes, |name| {
            model.position(name).map_or(0, |index| model.parameters[index].tensor.numel() * width)
        });
        self
    }

    /// The adapters' configuration, where there are adapters.
    pub fn lora(&self) -> Option<&LoraConfig> {
        self.lora.as_ref()
    }

    /// Keeps the checkpoint in `dir` as the frozen reference: from now on [`ContrastPolicy::contrast_step`] reports the KL to it,
    /// and takes gradients with a KL term. The two must have one architecture. A policy with adapters has its own frozen
    /// base at hand: that is the reference, whatever `dir` is, and it takes no memory.
    pub fn with_reference(mut self, dir: &Path) -> Result<Self> {
        if self.lora.is_some() {
            self.reference = Some(self.model.without_adapters()?);
            return Ok(self);
        }
        let config = ModelConfig::read(dir)?;
        if config.tensors() != self.model.config.tensors() {
            return Err(Error::Reference { dir: dir.to_owned() });
        }
        let reader = CheckpointReader::open(dir, &config)?;
        let (model, _) = Model::load(config, &reader, self.model.device(), self.model.kinds())?;
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
        let crew = Arc::clone(&self.crew);
        language_model(&self.model, self.plan(&crew, Work::Train), examples, Some(&mut self.gradients))
    }

    /// The loss of [`TorchPolicy::lm_step`] without a gradient.
    pub fn lm_loss(&self, examples: &[LmExample]) -> Result<LmLoss> {
        language_model(&self.model, self.plan(&self.crew, Work::Score), examples, None)
    }

    /// Continues the prompts that the model can take, and says of the others why it cannot.
    fn generate(
        &self,
        encoded: impl Iterator<Item = Result<Prompt>>,
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>> {
        let (mut prompts, mut refusals) = (Vec::new(), Vec::new());
        for prompt in encoded {
            let checked = prompt.and_then(|prompt| {
                prompt.check(&self.model, params.max_new_tokens)?;
                Ok(prompt)
            });
            refusals.push(match checked {
                Ok(prompt) => {
                    prompts.push(prompt);
                    None
                }
                Err(error) => Some(error.into_refusal()?),
            });
        }
        let limits = (self.options.generation_batch, self.budgets.of(Work::Sample));
        let samples = generate(&self.model, &self.crew, &self.tokenizer, limits, prompts, params)?;
        let mut samples = samples.into_iter();
        let outcomes = refusals.into_iter().filter_map(|refusal| match refusal {
            Some(refusal) => Some(Err(refusal)),
            None => samples.next().map(Ok),
        });
        Ok(outcomes.collect())
    }

    fn plan<'a>(&self, crew: &'a Crew, work: Work) -> Plan<'a> {
        let lora = self.lora.as_ref().filter(|lora| work == Work::Train && lora.dropout > 0.0);
        let update = self.optimizer.as_ref().map_or(0, Optimizer::steps);
        let dropout = lora.map(|lora| DropoutSeed { rate: lora.dropout, seed: lora.seed, update });
        Plan { crew, token_budget: self.budgets.of(work), recompute: self.options.recompute, dropout }
    }

    fn encode(&self, request: &SampleRequest) -> Result<Prompt> {
        let ids = self.tokenizer.encode_prompt(&request.prompt, "the prompt")?;
        Ok(Prompt { ids, stream: request.stream })
    }

    /// What stands in the way of scoring a set.
    fn refusal_of(&self, set: &ContrastSet) -> Result<Option<Refusal>> {
        match TokenisedSet::new(set, &self.tokenizer, &self.model) {
            Ok(_) => Ok(None),
            Err(error) => error.into_refusal().map(Some),
        }
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
            let parameters = self.model.parameters.iter();
            let remainders =
                parameters.zip(&mut self.remainders).map(|(parameter, remainder)| match parameter {
                    parameter if parameter.trainable => remainder.take(),
                    _ => None,
                });
            let remainders = remainders.collect();
            let EngineOptions { optimizer, precision, .. } = self.options;
            self.optimizer = Some(Optimizer::new(optimizer, precision, &self.model.parameters, remainders)?);
        }
        self.optimizer
            .as_mut()
            .ok_or(Error::Option { option: "optimizer", reason: "its state could not be made".into() })
    }

    fn exact(&self, index: usize) -> Stored {
        let parameter = &self.model.parameters[index];
        match (&self.optimizer, self.remainders.get(index)) {
            (Some(optimizer), _) if parameter.trainable => optimizer.exact(index, &parameter.tensor),
            (_, Some(Some(remainder))) => Stored::Split {
                weight: parameter.tensor.shallow_clone(),
                remainder: remainder.shallow_clone(),
            },
            _ => Stored::Plain(parameter.tensor.shallow_clone()),
        }
    }

    /// What is written of a parameter.
    fn save_dtype(&self) -> Dtype {
        self.options.save_dtype.unwrap_or(match self.options.precision {
            Precision::Exact => Dtype::F32,
            Precision::Bf16Pure => self.options.dtype,
        })
    }

    fn stored(&self, index: usize, dtype: Dtype) -> Stored {
        match dtype {
            // The forward weight is the exact one rounded to nearest.
            Dtype::Bf16 => Stored::Plain(self.model.parameters[index].tensor.shallow_clone()),
            Dtype::F32 => self.exact(index),
        }
    }
}

fn kinds(options: &EngineOptions) -> Kinds {
    Kinds { weights: options.dtype.kind(), arithmetic: options.arithmetic().kind() }
}

fn flat_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.f_detach()?.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?;
    Ok(Vec::<f32>::try_from(tensor.f_contiguous()?.f_view([-1])?)?)
}

impl Sampler for TorchPolicy {
    type Error = Error;

    fn sample(
        &mut self,
        requests: &[SampleRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>> {
        self.generate(requests.iter().map(|request| self.encode(request)), params)
    }

    fn prompt_refusal(&self, request: &SampleRequest, params: &SamplingParams) -> Result<Option<Refusal>> {
        let prompt = self.encode(request);
        match prompt.and_then(|prompt| prompt.check(&self.model, params.max_new_tokens)) {
            Ok(()) => Ok(None),
            Err(error) => error.into_refusal().map(Some),
        }
    }

    fn set_refusal(&self, set: &ContrastSet) -> Result<Option<Refusal>> {
        self.refusal_of(set)
    }
}

impl ChatSampler for TorchPolicy {
    fn has_chat_format(&self) -> bool {
        self.chat_template.is_some()
    }

    fn sample_chat(
        &mut self,
        requests: &[ChatRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>> {
        let encode = |request: &ChatRequest| {
            let ids = self.encode_chat(&request.messages, "the conversation")?;
            Ok(Prompt { ids, stream: request.stream })
        };
        self.generate(requests.iter().map(encode), params)
    }
}

impl ContrastPolicy for TorchPolicy {
    type Error = Error;

    fn score(&mut self, sets: &[ContrastSet]) -> Result<Vec<SetLogps>> {
        let sets = self.tokenise(sets)?;
        score(&self.model, self.plan(&self.crew, Work::Score), &sets)
    }

    fn refusal(&self, set: &ContrastSet) -> Result<Option<Refusal>> {
        self.refusal_of(set)
    }

    fn contrast_step(
        &mut self,
        sets: &[ContrastSet],
        gradient: &mut GradientOf<'_>,
    ) -> Result<Vec<SetLogps>> {
        let sets = self.tokenise(sets)?;
        let crew = Arc::clone(&self.crew);
        contrast_step(
            &self.model,
            self.reference.as_ref(),
            self.plan(&crew, Work::Train),
            &sets,
            gradient,
            &mut self.gradients,
        )
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
        let report = optimizer.step(&self.crew, &self.model.parameters, &mut self.gradients, lr_factor)?;
        self.gradients.clear();
        Ok(report)
    }

    fn save(&self, dir: &Path) -> Result<()> {
        let dtype = self.save_dtype();
        let Some(lora) = &self.lora else {
            return self.writer.write(dir, dtype, |name| {
                Ok(self.model.position(name).map(|index| self.stored(index, dtype)))
            });
        };
        let adapters = self.model.parameters.iter().enumerate().filter(|(_, parameter)| parameter.trainable);
        let tensors = adapters.map(|(index, parameter)| (parameter.name.clone(), self.stored(index, dtype)));
        self.writer.write_adapter(dir, dtype, tensors.collect(), &lora.to_peft(&self.base))
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
    /// Checks the options, the base's configuration, and that training it fits into the memory that is free; loads no weights.
    pub fn new(base: &Path, options: EngineOptions) -> Result<Self> {
        plan_memory(base, &options, Work::Train, None)?.check(&options)?;
        Ok(Self { base: base.to_owned(), options })
    }

    fn open(&self, start: Start<'_>) -> Result<TorchPolicy> {
        match start {
            Start::Base => TorchPolicy::open(&self.base, &self.options),
            // The base is the one given here, wherever it lay when the adapter was written.
            Start::Checkpoint(dir) => match AdapterFiles::open(dir)? {
                Some(adapter) => TorchPolicy::open_adapter(&self.base, adapter, &self.options),
                None => TorchPolicy::open(dir, &self.options),
            },
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
