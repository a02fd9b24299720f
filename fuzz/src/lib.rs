//! What the fuzz targets share.

#[cfg(feature = "torch")]
#[path = "../../tests/parsers/checkpoints.rs"]
mod checkpoints;
#[path = "../../tests/parsers/entries.rs"]
mod entries;

/// The crates that read, under the names of the facade, whose other crates would take long to build.
mod readers {
    pub(crate) use sami_constitution as constitution;
    pub(crate) use sami_data as data;
    pub(crate) use sami_driver as driver;
    #[cfg(feature = "torch")]
    pub(crate) use {sami_policy as policy, sami_torch as torch};
}

use std::cell::OnceCell;

use entries::{ENTRIES, Entry};

#[cfg(not(feature = "torch"))]
const CHECKPOINT_ENTRIES: [Entry; 0] = [];
#[cfg(feature = "torch")]
use checkpoints::CHECKPOINT_ENTRIES;

/// Gives a fuzzer's bytes to the entry of this name.
pub fn run(name: &str, bytes: &[u8]) {
    thread_local! {
        static DIR: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
    }
    let mut entries = ENTRIES.iter().chain(&CHECKPOINT_ENTRIES);
    let (_, entry) = entries.find(|(entry, _)| *entry == name).expect("an entry of this name");
    DIR.with(|dir| {
        let make = || {
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary directory")
        };
        entry(dir.get_or_init(make).path(), bytes);
    });
}
