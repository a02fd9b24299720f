//! OpenAI-compatible HTTP client of SAMI.
//!
//! Whatever answers `POST {base_url}/completions` or `/chat/completions` in OpenAI's format (vLLM, llama.cpp,
//! `transformers serve`, a hosted service) becomes a [`sami_policy::Sampler`] and [`sami_policy::ChatSampler`]
//! ([`RemoteSampler`]): a policy that is sampled elsewhere and scored here, or a principle writer. A chat model becomes a
//! [`sami_policy::Judge`] ([`RemoteJudge`]).
//!
//! ```no_run
//! use sami_remote::{EndpointBuilder, KeySource, RemoteSampler};
//!
//! let endpoint = EndpointBuilder {
//!     base_url: "http://localhost:8000/v1".into(),
//!     model: "mistralai/Mistral-7B-v0.1".into(),
//!     key: KeySource::Environment("VLLM_API_KEY".into()),
//!     cache: Some("answers.jsonl".into()),
//!     ..EndpointBuilder::default()
//! };
//! let sampler = RemoteSampler::new(endpoint.check()?);
//! # Ok::<(), sami_remote::RemoteError>(())
//! ```
//!
//! | promise | how |
//! |---|---|
//! | The key is nobody's business | It comes from an environment variable or a file ([`KeySource`]) and is in no message, `Debug` output or file, also when a server repeats it. Redirects are followed to the same scheme, host and port only. |
//! | Patience with an end | Every attempt has a time limit. 408, 409, 425, 429 and most 5xx answers, also inside an answer with status 200, broken connections and half answers are tried again a bounded number of times, ever later and never in step. `Retry-After` holds back every request to the server. |
//! | No answer is paid for twice | Answers are kept in a file ([`EndpointBuilder::cache`]), whole lines only, shared by jobs and processes. |
//! | No surprise on the bill | [`EndpointBuilder::max_requests`] and [`EndpointBuilder::spend`] end a job before they are exceeded; [`Endpoint::usage`] says what was used. |
//! | One bad request ends nothing | A prompt that the server refuses, or an answer that cannot be used, is a [`sami_policy::Refusal`] with the server's words, and the others go on. A server that has refused everything ends the job after a few. |
//! | No default of a server behind our back | Sampling parameters are always sent, also those that do nothing. One that a server refuses ends a job whose responses depend on it; else it is left out, said, and kept in [`Endpoint::left_to_server`]. |
//! | Token ids are the truth | vLLM is asked for them; where a server tells none, the samples say so. A server's log-probabilities are never read. |

mod answer;
mod attempt;
mod budget;
mod cache;
mod changes;
mod client;
mod complaint;
mod endpoint;
mod error;
mod finish;
mod judge;
mod key;
mod mend;
mod pool;
mod redirect;
mod request;
mod retry;
mod sampler;
mod tally;
mod who;

pub use budget::{SpendCap, Usage};
pub use endpoint::{Dialect, Endpoint, EndpointBuilder, TokenLimit};
pub use error::RemoteError;
pub use judge::RemoteJudge;
pub use key::KeySource;
pub use sampler::{RemoteSampler, SampleCounts};
