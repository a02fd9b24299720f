//! Fresh random models of every family, computed by PyTorch + transformers and by the engine, side by side.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    repo::{self, Repo, RepoError},
    say,
};

/// The comparison could not be made, or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParityError {
    #[error(
        "{python} cannot import torch, transformers, safetensors and peft; make an environment with\n  \
         python3 -m venv .venv && .venv/bin/pip install --no-deps -r fixtures/requirements.txt\n\
         and give it as --python .venv/bin/python, or as SAMI_PYTHON"
    )]
    Python { python: String },
    #[error("no directory for the models: {source}")]
    Scratch { source: std::io::Error },
    #[error(transparent)]
    Command(#[from] RepoError),
}

/// What to draw, and where.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) python: Option<PathBuf>,
    pub(crate) seed: Option<u64>,
    pub(crate) models: Vec<String>,
    pub(crate) keep: Option<PathBuf>,
}

/// Draws the models, compares, and lets transformers open what the engine saved of them.
pub(crate) fn parity(repo: &Repo, request: &Request) -> Result<(), ParityError> {
    let python = request
        .python
        .clone()
        .or_else(|| env::var_os("SAMI_PYTHON").filter(|value| !value.is_empty()).map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("python3"));
    let imports = ["-c", "import torch, transformers, safetensors, peft"];
    let found = Command::new(&python).args(imports).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        return Err(ParityError::Python { python: python.display().to_string() });
    }
    // A fresh draw each time, told so that it can be drawn again.
    let seed = request.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() % 1_000_000)
    });
    let scratch;
    let dir: &Path = match &request.keep {
        Some(dir) => dir,
        None => {
            scratch = tempfile::tempdir().map_err(|source| ParityError::Scratch { source })?;
            scratch.path()
        }
    };
    say::line(&format!("==> models of seed {seed} in {}", dir.display()));
    let script = |name: &str| {
        let mut command = Command::new(&python);
        command.arg(repo.root().join("fixtures").join(name));
        command
    };
    let mut make = script("make_parity.py");
    make.args(["--fresh", "--seed", &seed.to_string(), "--out"]).arg(dir).stdout(Stdio::null());
    if !request.models.is_empty() {
        make.arg("--models").args(&request.models);
    }
    repo::run(&mut make)?;
    let mut compare = repo.cargo();
    compare.args(["run", "--quiet", "--package", "sami-torch", "--example", "parity", "--"]);
    let compared = repo::run(compare.arg(dir));
    let opened = repo::run(script("check_saved.py").arg(dir));
    Ok(compared.and(opened).and_then(|()| adapters(repo, &script, &dir.join("adapters")))?)
}

/// Lets PEFT and transformers open what the engine writes of the adapters among the fixtures.
fn adapters(repo: &Repo, script: &impl Fn(&str) -> Command, dir: &Path) -> Result<(), RepoError> {
    let mut write = repo.cargo();
    write.args(["run", "--quiet", "--package", "sami-torch", "--example", "adapters", "--"]);
    repo::run(write.arg(dir))?;
    repo::run(script("check_adapters.py").arg(dir).current_dir(repo.root()))
}
