//! Standard output and standard error, neither of which can fail a command: a closed pipe ends the reader, not the work.

use std::fmt::Display;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use sami_data::check_finite;
use serde::Serialize;

use crate::failure::Failure;

/// Set once, before anything is said: whether only results, warnings and errors are wanted.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves out remarks and progress from now on.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

pub(crate) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// A message for a person that can be left out, on standard error.
pub(crate) fn remark(message: &str) {
    if !is_quiet() {
        say(message);
    }
}

/// A message for a person, on standard error.
pub(crate) fn say(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{message}");
}

/// The command's result on standard output: JSON, or as text.
pub(crate) fn result<T: Serialize>(value: &T, text: &dyn Display, json: bool) -> Result<(), Failure> {
    let line = if json {
        check_finite(value)?;
        serde_json::to_string(value).map_err(Failure::Result)?
    } else {
        text.to_string()
    };
    let _ = writeln!(std::io::stdout().lock(), "{line}");
    Ok(())
}

/// One value as a line of JSON.
pub(crate) fn write_line<W: Write + ?Sized, T: Serialize>(file: &mut W, value: &T) -> std::io::Result<()> {
    check_finite(value).map_err(std::io::Error::other)?;
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}
