//! The LibTorch policy: samples, scores and trains one checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, ContrastPolicy, ContrastSet, GradientOf, PolicyProvider, Refusal,
    Sample, SampleRequest, Sampler, SamplingParams, SetLogps, Start, TrainablePolicy, UpdateReport,
};
use tch::{Kind, Tensor, no_grad};

use crate::chat::ChatTemplate;
use crate::checkpoint::{
    CheckpointReader, CheckpointWriter, StateReader, Stored, fill_directory, read_config, save_tensors,
};
use crate::config::ModelConfig;
use crate::contrast::{TokenisedSet, contrast_step, score};
use crate::crew::Crew;
use crate::device::to_tch;
use crate::error::{Error, Result};
use crate::generate::{Prompt, generate};
use crate::gradients::Gradients;
use crate::language::{LmExample, LmLoss, language_model};
use crate::lora::{AdapterFiles, Adapters, EMBEDDING, HEAD, Loaded, PREFIX};
use crate::model::{DropoutSeed, Kinds, Model, Parameter, rounded};
use crate::optimizer::Optimizer;
use crate::options::{Dtype, EngineOptions, Precision};
use crate::pass::Plan;
use crate::plan::{Budgets, MemoryPlan, Work, free_memory, plan_memory};
use crate::prompt::PromptFormat;
use crate::remarks::remark;
use crate::tokenizer::Tokenizer;

const STATE_FILE: &str = "trainer.safetensors";

/// A causal language model on LibTorch with its tokenizer: a [`Sampler`], a [`ContrastPolicy`] and a [`TrainablePolicy`].
pub struct TorchPolicy {
    /// Where the (frozen or trained) weights came from.
    base: PathBuf,
    adapters: Option<Adapters>,
    model: Model,
    crew: Arc<Crew>,
    /// The frozen model that the KL is measured against.
    reference: Option<Model>,
    tokenizer: Tokenizer,
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
    /// where its configuration says. Refuses at once what cannot be scored in the memory that is free. With
    /// [`EngineOptions::keep_reference`] the weights as they are now stay as the reference.
    pub fn open(dir: &Path, options: &EngineOptions) -> Result<Self> {
        let policy = Self::open_alone(dir, options)?;
        if !options.keep_reference {
            return Ok(policy);
        }
        let base = policy.base.clone();
        policy.with_reference(&base)
    }

    /// Opens it without a reference, whatever the options say.
    fn open_alone(dir: &Path, options: &EngineOptions) -> Result<Self> {
        match AdapterFiles::open(dir)? {
            Some(adapter) => {
                let base = adapter.base()?;
                Self::open_adapter(&base, &adapter, options)
            }
            None => {
                let mut policy = Self::open_full(dir, options)?;
                if let Some(lora) = &options.lora {
                    let adapters = lora.on(&policy.model.config)?;
                    let tensors = lora.begin(&adapters)?;
                    policy.attach(adapters, tensors)?;
                }
                policy.model.track_gradients()?;
                Ok(policy)
            }
        }
    }

    fn open_adapter(base: &Path, files: &AdapterFiles, options: &EngineOptions) -> Result<Self> {
        let seed = options.lora.as_ref().map_or(0, |lora| lora.seed);
        // The head may be the file's own: only the files tell what can be adapted.
        let reader = CheckpointReader::open(base, &read_config(base)?)?;
        let adapters = files.on(reader.config(), seed)?;
        drop(reader);
        let mut policy = Self::open_full(base, options)?;
        files.remarks(base, policy.chat_template()).iter().for_each(|text| remark(text));
        let tensors = files.load(&adapters, &policy.model.config)?;
        policy.attach(adapters, tensors)?;
        policy.model.track_gradients()?;
        Ok(policy)
    }

    fn open_full(dir: &Path, options: &EngineOptions) -> Result<Self> {
        options.check()?;
        let device = to_tch(options.device)?;
        let config = read_config(dir)?;
        for note in &config.notes {
            remark(&format!("{}: {note}", dir.join("config.json").display()));
        }
        let free = free_memory(options.device);
        MemoryPlan::new(&config, options, Work::Score, None, free.clone()).check(options)?;
        let tokenizer = Tokenizer::open(dir)?;
        if options.prompt_format == PromptFormat::UserTurn {
            tokenizer.require_chat_template()?;
        }
        let reader = CheckpointReader::open(dir, &config)?;
        let budgets = Budgets::new(reader.config(), options, free);
        tracing::debug!(dir = %dir.display(), bytes = reader.bytes(), "loading weights");
        for text in reader.remarks() {
            remark(&format!("{}: {text}", dir.display()));
        }
        let (model, remainders) = Model::load(&reader, device, kinds(options))?;
        let kind = match options.precision {
            Precision::Exact => Kind::Float,
            Precision::Bf16Pure => options.dtype.kind(),
        };
        Ok(Self {
            gradients: Gradients::new(model.parameters.len(), kind),
            writer: CheckpointWriter::new(dir, &reader.layout()),
            base: dir.to_owned(),
            adapters: None,
            crew: Arc::new(Crew::new(device)?),
            model,
            reference: None,
            tokenizer,
            options: options.clone(),
            budgets,
            remainders,
            optimizer: None,
            boundary_merges: 0,
        })
    }

    /// Puts adapters on the weights, which are frozen from then on.
    fn attach(&mut self, adapters: Adapters, tensors: Vec<Loaded>) -> Result<()> {
        let (device, kind) = (self.model.device(), self.model.kinds().weights);
        let mut parameters = Vec::with_capacity(tensors.len());
        for Loaded { name, tensor, trainable } in tensors {
            let (tensor, remainder) = rounded(&tensor.f_to_device(device)?, kind)?;
            parameters.push(Parameter { name, tensor, trainable });
            self.remainders.push(remainder);
        }
        let model = self.model.without_adapters()?;
        self.model = model.with_adapters(adapters.clone(), parameters)?;
        self.gradients = Gradients::new(self.model.parameters.len(), self.gradients.kind());
        self.adapters = Some(adapters);
        Ok(())
    }

    /// The same policy with its adapters added to the weights: a plain checkpoint again. Where embedding and head are one tensor
    /// and the adapters change one of them, they are two from then on. Without adapters nothing changes. A reference stays
    /// what it was, the weights without the adapters.
    pub fn merge_adapters(mut self) -> Result<Self> {
        let Some(adapters) = self.adapters.take() else { return Ok(self) };
        if let Some(reference) = self.reference.take() {
            // It shares storage with the weights, which change now.
            let module = |name: &str| name.strip_suffix(".weight").and_then(|module| adapters.of(module));
            self.reference = Some(reference.with_own(|name| module(name).is_some())?);
        }
        let mut config = self.model.config.clone();
        if config.tie_word_embeddings && !self.model.is_tied() {
            config.tie_word_embeddings = false;
            self.writer.untie();
        }
        let (mut parameters, mut remainders) = (Vec::new(), Vec::new());
        no_grad(|| -> Result<()> {
            for (name, _) in config.tensors() {
                let Some(index) = self.model.source(&name) else { continue };
                let module = name.strip_suffix(".weight").unwrap_or_default();
                let update = self.model.update(module, |index| self.exact(index).tensor())?;
                let mut tensor = self.model.parameters[index].tensor.f_detach()?;
                // Embedding and head may come from one tensor; layers are merged in place.
                if [EMBEDDING, HEAD].contains(&module) && !config.tie_word_embeddings {
                    let mut own = tensor.f_empty_like()?;
                    own.f_copy_(&tensor)?;
                    tensor = own;
                }
                let remainder = match update {
                    Some(update) => {
                        let exact = self.exact(index).tensor()?.f_to_kind(Kind::Float)?;
                        let (merged, remainder) = rounded(&exact.f_add(&update)?, tensor.kind())?;
                        tensor.f_copy_(&merged)?;
                        remainder
                    }
                    None => match self.exact(index) {
                        Stored::Split { remainder, .. } => Some(remainder),
                        Stored::Plain(exact) => rounded(&exact, tensor.kind())?.1,
                    },
                };
                parameters.push(Parameter { name, tensor, trainable: true });
                remainders.push(remainder);
            }
            Ok(())
        })?;
        self.remainders = remainders;
        self.gradients = Gradients::new(parameters.len(), self.gradients.kind());
        self.optimizer = None;
        self.model = self.model.rebuilt(config, parameters)?;
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

    /// The adapters, where there are some.
    pub fn adapters(&self) -> Option<&Adapters> {
        self.adapters.as_ref()
    }

    /// Keeps the checkpoint in `dir` as the frozen reference: from now on [`ContrastPolicy::contrast_step`] reports the KL to it,
    /// and takes gradients with a KL term. The two must have one architecture. A policy with adapters has its own frozen
    /// base at hand: that is the reference, whatever `dir` is, and it takes no memory.
    pub fn with_reference(mut self, dir: &Path) -> Result<Self> {
        if self.adapters.is_some() {
            self.reference = Some(self.model.without_adapters()?);
            return Ok(self);
        }
        let reader = CheckpointReader::open(dir, &read_config(dir)?)?;
        if !reader.config().lays_out_like(&self.model.config) {
            return Err(Error::Reference { dir: dir.to_owned() });
        }
        let (model, _) = Model::load(&reader, self.model.device(), self.model.kinds())?;
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
        self.tokenizer.chat_template()
    }

    /// Tokens of a conversation, up to where the assistant's answer begins.
    pub fn encode_chat(&self, messages: &[ChatMessage], what: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode_chat(messages, what)
    }

    /// Tokens of a prompt, in the format that the policy was opened with: those that it samples after, and scores and trains on.
    pub fn encode_prompt(&self, prompt: &str, what: &str) -> Result<Vec<u32>> {
        self.options.prompt_format.write(prompt, &self.tokenizer)?.ids(what)
    }

    /// Entries scored so far whose jointly tokenised prompt + response does not begin with the prompt's own tokens: a
    /// token was merged across the boundary, and what is counted begins at the prompt's length all the same.
    pub fn boundary_merges(&self) -> usize {
        self.boundary_merges
    }

    /// Full logits after every token of one prompt: `[tokens][vocab]`, for inspection and parity checks.
    pub fn prompt_logits(&mut self, prompt: &str) -> Result<Vec<Vec<f32>>> {
        let ids = self.encode_prompt(prompt, "the prompt")?;
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
        self.check_trainable()?;
        let crew = Arc::clone(&self.crew);
        language_model(&self.model, self.plan(&crew, Work::Train), examples, Some(&mut self.gradients))
    }

    /// The loss of [`TorchPolicy::lm_step`] without a gradient.
    pub fn lm_loss(&self, examples: &[LmExample]) -> Result<LmLoss> {
        language_model(&self.model, self.plan(&self.crew, Work::Score), examples, None)
    }

    fn check_trainable(&self) -> Result<()> {
        let Some(adapters) = &self.adapters else { return Ok(()) };
        let path = self.base.clone();
        adapters.check_trainable().map_err(|source| Error::Adapter { path, source })
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
        let adapters = self.adapters.as_ref().filter(|its| work == Work::Train && its.dropout > 0.0);
        let update = self.optimizer.as_ref().map_or(0, Optimizer::steps);
        let dropout = adapters.map(|its| DropoutSeed { rate: its.dropout, seed: its.seed, update });
        Plan { crew, token_budget: self.budgets.of(work), recompute: self.options.recompute, dropout }
    }

    fn encode(&self, request: &SampleRequest) -> Result<Prompt> {
        let ids = self.encode_prompt(&request.prompt, "the prompt")?;
        Ok(Prompt { ids, stream: request.stream })
    }

    /// What stands in the way of scoring a set.
    fn refusal_of(&self, set: &ContrastSet) -> Result<Option<Refusal>> {
        match TokenisedSet::new(set, self.options.prompt_format, &self.tokenizer, &self.model) {
            Ok(_) => Ok(None),
            Err(error) => error.into_refusal().map(Some),
        }
    }

    fn tokenise(&mut self, sets: &[ContrastSet]) -> Result<Vec<TokenisedSet>> {
        let sets: Vec<TokenisedSet> = sets
            .iter()
            .map(|set| TokenisedSet::new(set, self.options.prompt_format, &self.tokenizer, &self.model))
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
            for note in &self.model.config.training_notes {
                remark(&format!("{}: {note}", self.base.join("config.json").display()));
            }
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
        self.chat_template().is_some()
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
        self.check_trainable()?;
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
        let Some(adapters) = &self.adapters else {
            return self.writer.write(dir, &self.model.config, dtype, |name| {
                Ok(self.model.position(name).map(|index| self.stored(index, dtype)))
            });
        };
        let own = |(_, parameter): &(usize, &Parameter)| parameter.name.starts_with(PREFIX);
        let tensors = self
            .model
            .parameters
            .iter()
            .enumerate()
            .filter(own)
            .map(|(index, parameter)| (parameter.name.clone(), self.stored(index, dtype)));
        self.writer.write_adapter(dir, dtype, tensors.collect(), &adapters.to_peft(&self.base))
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
        if options.lora.is_some() && AdapterFiles::open(base)?.is_some() {
            let reason = format!(
                "{} is an adapter, which goes on training as it is; leave the setting out, or merge the adapter first",
                base.display()
            );
            return Err(Error::Option { option: "lora", reason });
        }
        plan_memory(base, &options, Work::Train, None)?.check(&options)?;
        Ok(Self { base: base.to_owned(), options })
    }

    /// Without a reference, which sampling has no use for.
    fn open(&self, start: Start<'_>) -> Result<TorchPolicy> {
        match start {
            Start::Base => TorchPolicy::open_alone(&self.base, &self.options),
            // The base is the one given here, or that of the adapter given here, wherever it lay when the
            // checkpoint was written.
            Start::Checkpoint(dir) => match AdapterFiles::open(dir)? {
                Some(adapter) => {
                    let given = AdapterFiles::open(&self.base)?.map(|given| given.base()).transpose()?;
                    TorchPolicy::open_adapter(given.as_ref().unwrap_or(&self.base), &adapter, &self.options)
                }
                None => TorchPolicy::open_alone(dir, &self.options),
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
        policy.check_trainable()?;
        if self.options.keep_reference { policy.with_reference(&self.base) } else { Ok(policy) }
    }
}
