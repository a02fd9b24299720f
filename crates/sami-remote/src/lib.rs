//! OpenAI-compatible HTTP client of SAMI.
//!
//! Whatever answers `POST {base_url}/completions` in OpenAI's format (vLLM, llama.cpp, a hosted service) becomes a
//! [`sami_policy::Sampler`]: a policy that is sampled elsewhere and scored here.
//!
//! ```no_run
//! use sami_remote::{EndpointBuilder, RemoteSampler};
//!
//! let endpoint = EndpointBuilder {
//!     base_url: "http://localhost:8000/v1".into(),
//!     model: "mistralai/Mistral-7B-v0.1".into(),
//!     ..EndpointBuilder::default()
//! };
//! let sampler = RemoteSampler::new(endpoint.check()?);
//! # Ok::<(), sami_remote::RemoteError>(())
//! ```
//!
//! The key comes from an environment variable and from nowhere else. It is in no message, `Debug` output or file, also
//! when a server repeats it in its answer. Requests have a time limit; 429, 408 and 5xx answers and broken connections
//! are tried again a bounded number of times, ever later, with `Retry-After` respected up to the same bound.

mod endpoint;
mod error;
mod sampler;

pub use endpoint::{Endpoint, EndpointBuilder};
pub use error::RemoteError;
pub use sampler::RemoteSampler;
