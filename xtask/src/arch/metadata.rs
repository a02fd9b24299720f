//! `cargo metadata`, as far as the checks read it.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::ArchError;
use crate::repo::{self, Repo, RepoError};

/// The workspace's packages and everything they depend on.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) packages: Vec<Package>,
    pub(super) workspace_members: Vec<String>,
    pub(super) resolve: Resolve,
}

#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) manifest_path: PathBuf,
    pub(super) rust_version: Option<String>,
    pub(super) dependencies: Vec<Dependency>,
}

/// A dependency as its manifest declares it.
#[derive(Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// `None` is a normal dependency; others are "dev" and "build".
    pub(super) kind: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Resolve {
    pub(super) nodes: Vec<Node>,
}

/// A package and the ids of what it resolved to depend on.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) dependencies: Vec<String>,
}

impl Metadata {
    pub(super) fn load(repo: &Repo) -> Result<Self, ArchError> {
        let mut command = repo.cargo();
        command.args(["metadata", "--format-version", "1", "--all-features"]);
        // Without this, cargo would download the packages of every platform there is.
        if let Some(host) = host() {
            command.args(["--filter-platform", &host]);
        }
        let output = command
            .output()
            .map_err(|source| RepoError::Start { command: repo::display(&command), source })?;
        if !output.status.success() {
            return Err(ArchError::Output {
                command: repo::display(&command),
                message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The workspace's own packages.
    pub(super) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Package names by id.
    pub(super) fn names(&self) -> BTreeMap<&str, &str> {
        self.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect()
    }
}

/// This machine's target triple, as the compiler states it.
fn host() -> Option<String> {
    let output = std::process::Command::new("rustc").arg("-vV").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

/// A crate of [`Metadata::fake`], and its dependencies with their kinds.
#[cfg(test)]
pub(super) type Fake<'a> = (&'a str, &'a [(&'a str, Option<&'a str>)]);

#[cfg(test)]
impl Metadata {
    /// A workspace of `(crate, [(dependency, kind)])`, where a name that is no crate of it is an outside package.
    pub(super) fn fake(crates: &[Fake<'_>]) -> Self {
        let mut packages: Vec<Package> = crates
            .iter()
            .map(|(name, dependencies)| Package {
                id: (*name).to_owned(),
                name: (*name).to_owned(),
                manifest_path: format!("/w/{name}/Cargo.toml").into(),
                rust_version: Some("1.89".to_owned()),
                dependencies: dependencies
                    .iter()
                    .map(|(name, kind)| Dependency {
                        name: (*name).to_owned(),
                        kind: kind.map(str::to_owned),
                    })
                    .collect(),
            })
            .collect();
        let workspace_members: Vec<String> = packages.iter().map(|package| package.id.clone()).collect();
        let resolve = Resolve {
            nodes: packages
                .iter()
                .map(|package| Node {
                    id: package.id.clone(),
                    dependencies: package
                        .dependencies
                        .iter()
                        .map(|dependency| dependency.name.clone())
                        .collect(),
                })
                .collect(),
        };
        for name in crates.iter().flat_map(|(_, dependencies)| dependencies.iter()).map(|(name, _)| *name) {
            if !packages.iter().any(|package| package.name == name) {
                packages.push(Package {
                    id: name.to_owned(),
                    name: name.to_owned(),
                    manifest_path: PathBuf::new(),
                    rust_version: None,
                    dependencies: Vec::new(),
                });
            }
        }
        Self { packages, workspace_members, resolve }
    }
}
