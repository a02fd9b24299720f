//! The model at the end of a run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sami_policy::PolicyProvider;

use crate::card::model_card;
use crate::error::DriverError;
use crate::files::{SCRATCH, remove_dir};
use crate::guards::GuardReport;
use crate::run::Driver;
use crate::score::ScoreSummary;

impl<P: PolicyProvider> Driver<P> {
    /// Makes `RUN/final`: the files of π_last, as links where the file system has them, and its model card. Appears whole.
    pub(crate) fn finish(
        &self,
        last: usize,
        stopped: Option<&GuardReport>,
        evaluations: &[ScoreSummary],
    ) -> Result<PathBuf, DriverError> {
        let (target, source) = (self.run.final_model(), self.run.iteration(last).checkpoint());
        let card = model_card(&self.recipe, self.queries().report(), last, stopped, evaluations);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| DriverError::Io { path, source }
        };
        // A run that was stopped and is let go on ends with another model: its card says which one this is.
        if fs::read_to_string(target.join(CARD)).is_ok_and(|text| text == card) {
            return Ok(target);
        }
        let scratch = self.run.root().join(SCRATCH);
        remove_dir(&scratch)?;
        fs::create_dir_all(&scratch).map_err(at(&scratch))?;
        let mut files: Vec<_> = Vec::new();
        for entry in fs::read_dir(&source).map_err(at(&source))? {
            files.push(entry.map_err(at(&source))?.path());
        }
        for file in files.iter().filter(|path| path.is_file()) {
            let Some(name) = file.file_name().filter(|name| *name != CARD) else { continue };
            link_or_copy(file, &scratch.join(name)).map_err(at(file))?;
        }
        let path = scratch.join(CARD);
        fs::write(&path, &card).and_then(|()| fs::File::open(&path)?.sync_all()).map_err(at(&path))?;
        remove_dir(&target)?;
        fs::rename(&scratch, &target).map_err(at(&target))?;
        Ok(target)
    }
}

/// What Hugging Face shows of a model.
const CARD: &str = "README.md";

fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => {
            fs::copy(from, to)?;
            fs::File::open(to)?.sync_all()
        }
    }
}
