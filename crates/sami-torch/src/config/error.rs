//! What can be wrong with a `config.json`.

use thiserror::Error as ThisError;

/// What is wrong with a `config.json`.
#[derive(Debug, ThisError, PartialEq)]
pub enum ConfigError {
    /// A field is not there.
    #[error("field \"{field}\" is missing")]
    Missing {
        /// Its name.
        field: String,
    },
    /// A field has an impossible value.
    #[error("field \"{field}\" is {value}; expected {expected}")]
    Invalid {
        /// Its name.
        field: String,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// A field asks for something that this engine does not compute.
    #[error("field \"{field}\" is {value}, which is not supported: {why}")]
    Unsupported {
        /// Its name.
        field: String,
        /// What stands there.
        value: String,
        /// What it would change.
        why: &'static str,
    },
}
