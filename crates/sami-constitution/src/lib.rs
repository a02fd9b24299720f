//! Principles and antitheses, constitutions sampled from them, and prompt templates.
//!
//! A [`Principle`] is one wish for a model's responses, in several wordings, with its antithesis. A [`Constitution`] takes
//! one side of each principle. SAMI contrasts N_c constitutions that differ in at least one side: Algorithm 1 of
//! arXiv 2404.14313 draws them anew for every query, which is [`ConstitutionSpace::sample_distinct`]. A [`Task`] turns a
//! constitution and a query into the prompts of Appendices A.10 and A.11: one with an example of the format for sampling,
//! one without for training.
//!
//! ```
//! use rand::SeedableRng;
//! use rand_chacha::ChaCha12Rng;
//! use sami_constitution::{ConstitutionSpace, PrincipleSet, Task};
//!
//! # fn main() -> Result<(), sami_constitution::Error> {
//! let space = ConstitutionSpace::new(PrincipleSet::helpful_harmless());
//! let mut rng = ChaCha12Rng::seed_from_u64(7);
//! let pair = space.sample_distinct(2, &mut rng)?;
//! assert_ne!(pair[0].id(), pair[1].id());
//!
//! let task = Task::dialogue();
//! let sampling = task.sampling_prompt(&pair[0], "How do I descale a kettle?")?;
//! let training = task.training_prompt(&pair[0].shuffled(&mut rng), "How do I descale a kettle?")?;
//! assert!(sampling.len() > training.len() && training.ends_with("Assistant:"));
//! # Ok(())
//! # }
//! ```

mod constitution;
mod contrast_file;
mod error;
mod hold_out;
mod picked;
mod plain_text;
mod principle;
mod rules;
mod source;
mod space;
mod task;
mod writer;

pub use constitution::{Article, Constitution, ConstitutionProblem, Stance};
pub use contrast_file::ContrastFile;
pub use error::{Error, Location};
pub use hold_out::{HeldOut, HoldOut, HoldOutProblem};
pub use picked::PickedContrasts;
pub use plain_text::plain_text;
pub use principle::{Principle, PrincipleProblem, PrincipleSet};
pub use rules::{ResponseRules, Trim};
pub use source::{ChosenContrasts, ConstitutionSource, QueryConstitutions, SourceProblem};
pub use space::{ConstitutionSpace, Contrasts, MAX_PRINCIPLES};
pub use task::{PromptKind, Task, TaskProblem, TaskWriter};
pub use writer::{
    AnswerNote, Missing, PrincipleWriter, SeedTemplate, Speaker, Turn, Turns, WriteError, WriterBuilder,
    WriterProblem, Written,
};
