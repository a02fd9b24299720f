//! What can go wrong with a server.

use thiserror::Error;

/// Why a request, or the settings for it, came to nothing. No variant holds the key.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// Not an HTTP address.
    #[error("base_url {url:?} must begin with http:// or https://, for example \"http://localhost:8000/v1\"")]
    Url {
        /// As it was given.
        url: String,
    },
    /// The address holds a name or a password.
    #[error("base_url holds a user name or password; put the key into an environment variable instead")]
    UrlWithSecret,
    /// No model named.
    #[error("model is empty; name the model as the server does")]
    Model,
    /// A count or duration of zero.
    #[error("{field} is 0; it must be at least 1")]
    Zero {
        /// Which setting.
        field: &'static str,
    },
    /// The variable for the key is absent, empty or no text.
    #[error(
        "environment variable {variable} holds no key; set it, or set api_key_env to None for a server without one"
    )]
    NoKey {
        /// Its name.
        variable: String,
    },
    /// The key cannot stand in a header.
    #[error("the key in environment variable {variable} has characters that a header cannot hold")]
    BadKey {
        /// Its name.
        variable: String,
    },
    /// The server was not reached, or broke off.
    #[error("{url}: no answer after {attempts} attempts: {reason}")]
    Transport {
        /// The address.
        url: String,
        /// How often it was tried.
        attempts: usize,
        /// What the last attempt met.
        reason: String,
    },
    /// The server refused.
    #[error("{url}: status {status} after {attempts} attempts: {message}")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// How often it was tried.
        attempts: usize,
        /// The beginning of what the server said, the key blanked out.
        message: String,
    },
    /// The answer is not what OpenAI's format says.
    #[error("{url}: the answer is no completion: {reason}")]
    Answer {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sampling parameter that servers do not offer.
    #[error("a server cannot return {what}; leave it out")]
    Unsupported {
        /// Which.
        what: &'static str,
    },
}
