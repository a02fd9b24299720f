//! What every command is given: how to speak.

use std::fmt::Display;

use serde::Serialize;

use crate::failure::Failure;
use crate::output;
use crate::progress::Progress;

/// The switches that all commands share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// The result is wanted as JSON.
    pub(crate) json: bool,
}

impl Context {
    /// A remark for a person, on standard error; left out where quiet is wanted.
    pub(crate) fn say(&self, message: &str) {
        output::remark(message);
    }

    /// The command's result on standard output: JSON, or as text.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: &dyn Display) -> Result<(), Failure> {
        output::result(value, text, self.json)
    }

    /// Shows what goes on, as far as that is wanted.
    pub(crate) fn progress(&self) -> Progress {
        Progress::new(output::is_quiet())
    }
}
