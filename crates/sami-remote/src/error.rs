//! What can go wrong with a server.

use std::path::PathBuf;

use thiserror::Error;

use crate::KeySource;

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
    #[error(
        "base_url holds a user name or password; put the key into an environment variable or a file instead"
    )]
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
    /// A price or cap that is no amount of money.
    #[error("{field} is {value}; it must be a finite number at or above 0")]
    Amount {
        /// Which setting.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// The variable or file for the key is absent or empty.
    #[error("{key} holds no key; set it, or ask for no key if the server needs none")]
    NoKey {
        /// Where it was looked for.
        key: KeySource,
    },
    /// The file for the key cannot be read.
    #[error("key file {path}: {source}", path = path.display())]
    KeyFile {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key cannot stand in a header.
    #[error("the key in {key} has characters that a header cannot hold")]
    BadKey {
        /// Where it was found.
        key: KeySource,
    },
    /// The file of answers cannot be read or written.
    #[error("answer cache {path}: {source}", path = path.display())]
    Cache {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
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
    /// The server asks for more patience than the settings allow.
    #[error(
        "{url}: status {status}, and the server asks to wait {seconds} s, longer than retry_after_cap ({most} s); run the job again later, its answers so far are kept in the cache if it has one"
    )]
    Wait {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What `Retry-After` says.
        seconds: u64,
        /// What the settings allow.
        most: u64,
    },
    /// The server refuses a parameter that cannot be left to it: responses would be others than asked for.
    #[error(
        "{url}: the server refuses {parameter} = {value}, and its own default would make the responses others than asked for; ask for a value that it takes, or ask another server. It says: {message}"
    )]
    Parameter {
        /// The address.
        url: String,
        /// Which.
        parameter: &'static str,
        /// What was asked for, as JSON.
        value: String,
        /// The beginning of what the server said, the key blanked out.
        message: String,
    },
    /// The server has answered nothing and refused everything.
    #[error("{url}: all of the first {refused} requests came to nothing, the first one so: {message}")]
    RefusesAll {
        /// The address.
        url: String,
        /// How many requests.
        refused: usize,
        /// Why the first one was.
        message: String,
    },
    /// The server sends elsewhere. The key is for this server alone, so nobody else is asked.
    #[error("{url}: it redirects to {to}, which is another server; if that is right, make it the base_url")]
    Redirect {
        /// The address.
        url: String,
        /// Where to.
        to: String,
    },
    /// The request is no JSON.
    #[error("the request cannot be written as JSON: {0}")]
    Request(#[source] serde_json::Error),
    /// As many requests as were allowed.
    #[error("the cap of {most} requests is reached; raise max_requests to go on")]
    RequestCap {
        /// The cap.
        most: u64,
    },
    /// The next request could cost more than is left.
    #[error(
        "{spent:.4} of at most {most:.4} are spent, and the next request may cost {next:.4}; raise the cap to go on"
    )]
    SpendCap {
        /// Spent so far, requests under way at their highest price.
        spent: f64,
        /// The cap.
        most: f64,
        /// The next request at its highest price.
        next: f64,
    },
    /// A sampling parameter that servers do not offer.
    #[error("a server cannot return {what}; leave it out")]
    Unsupported {
        /// Which.
        what: &'static str,
    },
}
