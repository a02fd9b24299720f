//! Remarks about a checkpoint, each said once by a process that opens it again and again.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Warns of what is unusual about a file or directory that the message names, unless this process has done so before.
pub(crate) fn remark(message: &str) {
    if is_new(message) {
        tracing::warn!("{message}");
    }
}

fn is_new(message: &str) -> bool {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_new_once() {
        assert!(is_new("a: odd") && is_new("b: odd"));
        assert!(!is_new("a: odd"));
    }
}
