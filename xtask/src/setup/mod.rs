//! LibTorch 2.11.0 on this machine, and this clone pointed at it.
//!
//! In this order: the LIBTORCH that the user set; what this clone's `.libtorch` leads to already; the user's cache,
//! filled from PyTorch's own wheels. However it ends, `.libtorch` is a link to a whole LibTorch or is left as it was.

mod cache;
mod error;
mod external;
mod link;
mod manifest;
mod python;
mod wheels;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) use error::SetupError;
use link::Link;
pub(crate) use wheels::Flavor;

use crate::{repo::Repo, say};

/// What the user asked for.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// `None`: whatever this clone uses already, else the CPU's.
    pub(crate) flavor: Option<Flavor>,
    /// CUDA libraries even without a GPU.
    pub(crate) force: bool,
    /// Read every byte of an installation that is there, not only its sizes and times.
    pub(crate) thorough: bool,
}

/// Makes a LibTorch available to plain cargo commands in this clone. Returns its directory.
pub(crate) fn setup(repo: &Repo, request: Request) -> Result<PathBuf, SetupError> {
    compiler()?;
    let link = repo.libtorch_link();
    if let Some(dir) = repo.user_libtorch() {
        let dir = external::validate(&dir)?;
        say::line(&format!("LibTorch {}: LIBTORCH is set, using {}", wheels::VERSION, dir.display()));
        if link::read(&link) != Link::Other {
            report(&link, &dir)?;
        }
        return Ok(dir);
    }
    if request.flavor == Some(Flavor::Cuda) {
        gpu(request.force)?;
    }
    let cache = cache::Cache::open()?;
    let arch = wheels::Arch::current();
    let care = if request.thorough { manifest::Care::Thorough } else { manifest::Care::Quick };
    let mut flavor = request.flavor;
    match link::read(&link) {
        Link::Absent => {}
        Link::To(target) => match arch.as_ref().ok().and_then(|arch| cache.flavor_at(&target, *arch)) {
            Some(linked) => flavor = flavor.or(Some(linked)),
            None if flavor.is_none() => match keep(&link, &target, care) {
                Ok(dir) => return Ok(dir),
                Err(problem) => say::line(&format!("{} is of no use: {problem}", link.display())),
            },
            None => {}
        },
        Link::Other => return keep_foreign(&link),
    }
    let dir = cache.ensure(flavor.unwrap_or(Flavor::Cpu), arch?, care)?;
    report(&link, &dir)?;
    Ok(dir)
}

fn report(link: &Path, target: &Path) -> Result<(), SetupError> {
    if link::point(link, target)? {
        say::line(&format!("{} now leads to {}", link.display(), target.display()));
    }
    Ok(())
}

/// What the link leads to outside this cache: a LibTorch that the user brought, or one in another cache of ours.
fn keep(link: &Path, target: &Path, care: manifest::Care) -> Result<PathBuf, SetupError> {
    let dir = external::validate(link)?;
    if let Some(flavor) = Flavor::of_installation(target) {
        manifest::Manifest::verify(&dir, wheels::RECIPE, &flavor.requirements(), care)
            .map_err(|damage| SetupError::Damaged { dir: dir.clone(), problem: damage.to_string() })?;
    }
    say::line(&format!("LibTorch {}: keeping {}", wheels::VERSION, dir.display()));
    Ok(dir)
}

/// What stands at the link's place without being a link is the user's: used if it can be, never replaced.
fn keep_foreign(link: &Path) -> Result<PathBuf, SetupError> {
    let dir = external::validate(link)
        .map_err(|error| SetupError::LinkInTheWay { link: link.to_path_buf(), problem: error.to_string() })?;
    say::line(&format!("LibTorch {}: keeping {}", wheels::VERSION, dir.display()));
    Ok(dir)
}

/// LibTorch's bindings are C++: better said before the download than after it.
fn compiler() -> Result<(), SetupError> {
    let named = env::var("CXX").unwrap_or_default();
    let mut words = named.split_whitespace();
    let program = words.next().unwrap_or("c++");
    if python::succeeds(Command::new(program).args(words).arg("--version")) {
        Ok(())
    } else {
        Err(SetupError::NoCompiler { tried: program.to_owned() })
    }
}

fn gpu(force: bool) -> Result<(), SetupError> {
    let found = python::succeeds(Command::new("nvidia-smi").arg("-L"))
        || Path::new("/proc/driver/nvidia/version").exists();
    match (found, force) {
        (true, _) => Ok(()),
        (false, true) => {
            say::line("no NVIDIA GPU is found here; installing the CUDA libraries all the same");
            Ok(())
        }
        (false, false) => Err(SetupError::NoGpu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_foreign_at_the_links_place_is_left_alone_and_named() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join(".libtorch");
        std::fs::create_dir(&link).unwrap();
        let error = keep_foreign(&link).unwrap_err().to_string();
        assert!(error.contains("not a link, and not a usable LibTorch"), "{error}");
        assert!(error.contains("which has no include/"), "{error}");
        assert!(link.is_dir());
    }
}
