//! The manifests: lints, MSRV, versions and reasons in one place.

use std::{fs, path::Path};

use super::{ArchError, Findings, metadata::Metadata};

/// A `Cargo.toml`, as text and as a table.
#[derive(Debug)]
pub(super) struct Manifest {
    name: String,
    text: String,
    table: toml::Table,
}

impl Manifest {
    /// The manifest in `root/dir`.
    pub(super) fn read(root: &Path, dir: &str) -> Result<Self, ArchError> {
        let path = root.join(dir).join("Cargo.toml");
        let text =
            fs::read_to_string(&path).map_err(|source| ArchError::Read { path: path.clone(), source })?;
        let table = text.parse().map_err(|source| ArchError::Toml { path, source })?;
        Ok(Self { name: Path::new(dir).join("Cargo.toml").display().to_string(), text, table })
    }

    fn get(&self, keys: &[&str]) -> Option<&toml::Value> {
        let (first, rest) = keys.split_first()?;
        rest.iter().try_fold(self.table.get(*first)?, |value, key| value.get(*key))
    }
}

/// The manifests of the workspace's crates.
pub(super) fn read_members(root: &Path, metadata: &Metadata) -> Result<Vec<Manifest>, ArchError> {
    metadata
        .members()
        .map(|package| {
            let dir = package.manifest_path.parent().unwrap_or(Path::new(""));
            let dir = dir.strip_prefix(root).unwrap_or(dir);
            Manifest::read(root, &dir.to_string_lossy())
        })
        .collect()
}

/// The workspace denies each of `lints`.
pub(super) fn workspace_lints(root: &Manifest, lints: &[&str]) -> Findings {
    let mut findings = Findings::default();
    for lint in lints {
        findings.looked_at += 1;
        let (tool, name) = lint.split_once("::").unwrap_or(("rust", lint));
        let level = root.get(&["workspace", "lints", tool, name]);
        let level = level.and_then(|value| value.get("level").or(Some(value))).and_then(toml::Value::as_str);
        if !matches!(level, Some("deny" | "forbid")) {
            findings.wrong(format!("{} does not deny {lint} for the workspace", root.name));
        }
    }
    findings
}

/// Every crate has `[lints] workspace = true`.
pub(super) fn members_take_lints(members: &[Manifest]) -> Findings {
    let mut findings = Findings::default();
    for manifest in members {
        findings.looked_at += 1;
        if manifest.get(&["lints", "workspace"]).and_then(toml::Value::as_bool) != Some(true) {
            findings.wrong(format!("{} lacks `[lints] workspace = true`", manifest.name));
        }
    }
    findings
}

/// The workspace states an MSRV, and every crate has that one.
pub(super) fn msrv(root: &Manifest, metadata: &Metadata) -> Findings {
    let mut findings = Findings::default();
    let Some(stated) = root.get(&["workspace", "package", "rust-version"]).and_then(toml::Value::as_str)
    else {
        findings.wrong(format!("{} states no workspace.package.rust-version", root.name));
        return findings;
    };
    for package in metadata.members() {
        findings.looked_at += 1;
        if package.rust_version.as_deref() != Some(stated) {
            let found = package.rust_version.as_deref().unwrap_or("none");
            findings.wrong(format!("{} states the MSRV {found} instead of {stated}", package.name));
        }
    }
    findings
}

/// Every dependency of a crate is taken from the workspace.
pub(super) fn versions_in_one_place(members: &[Manifest]) -> Findings {
    let mut findings = Findings::default();
    for manifest in members {
        let mut tables = vec![&manifest.table];
        tables.extend(
            manifest
                .get(&["target"])
                .and_then(toml::Value::as_table)
                .into_iter()
                .flat_map(|targets| targets.values().filter_map(toml::Value::as_table)),
        );
        for table in tables {
            for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
                for (name, value) in table.get(section).and_then(toml::Value::as_table).into_iter().flatten()
                {
                    findings.looked_at += 1;
                    if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                        findings.wrong(format!("{}: {name} does not say `workspace = true`", manifest.name));
                    }
                }
            }
        }
    }
    findings
}

/// Every line of `[workspace.dependencies]` ends in a comment with the reason; crates of our own need none.
pub(super) fn reasons(root: &Manifest) -> Findings {
    let mut findings = Findings::default();
    let section = root
        .text
        .lines()
        .enumerate()
        .skip_while(|(_, line)| line.trim() != "[workspace.dependencies]")
        .skip(1);
    for (number, line) in section.take_while(|(_, line)| !line.starts_with('[')) {
        let Some((name, value)) =
            line.split_once('=').filter(|(name, _)| !name.trim_start().starts_with('#'))
        else {
            continue;
        };
        findings.looked_at += 1;
        // No value of ours has a # in it; one that has would only make the check stricter about its reason.
        let reason = value.split_once('#').map_or("", |(_, reason)| reason.trim());
        if !value.contains("path =") && reason.len() < 4 {
            findings.wrong(format!("{}:{}: {} gives no reason after #", root.name, number + 1, name.trim()));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Manifest {
        Manifest { name: "Cargo.toml".to_owned(), text: text.to_owned(), table: text.parse().unwrap() }
    }

    #[test]
    fn lints_must_be_denied_not_warned_of() {
        let root =
            manifest("[workspace.lints.rust]\na = \"deny\"\nb = { level = \"forbid\" }\nc = \"warn\"\n");
        assert!(workspace_lints(&root, &["a", "b"]).problems().is_empty());
        assert_eq!(
            workspace_lints(&root, &["a", "c"]).problems(),
            ["Cargo.toml does not deny c for the workspace"]
        );
        assert_eq!(workspace_lints(&root, &["clippy::a"]).problems().len(), 1);
        assert_eq!(workspace_lints(&root, &[]).problems().len(), 1);
    }

    #[test]
    fn a_crate_without_the_lints_fails() {
        assert!(members_take_lints(&[manifest("[lints]\nworkspace = true")]).problems().is_empty());
        assert_eq!(members_take_lints(&[manifest("[lints]\nworkspace = false")]).problems().len(), 1);
        assert_eq!(members_take_lints(&[manifest("")]).problems().len(), 1);
        assert_eq!(members_take_lints(&[]).problems().len(), 1);
    }

    #[test]
    fn the_msrv_is_stated_once_and_taken_by_all() {
        let metadata = Metadata::fake(&[("a", &[])]);
        assert!(
            msrv(&manifest("[workspace.package]\nrust-version = \"1.89\""), &metadata).problems().is_empty()
        );
        let problems = msrv(&manifest("[workspace.package]\nrust-version = \"1.90\""), &metadata).problems();
        assert_eq!(problems, ["a states the MSRV 1.89 instead of 1.90"]);
        assert!(
            msrv(&manifest(""), &metadata).problems()[0].contains("states no workspace.package.rust-version")
        );
    }

    #[test]
    fn a_version_in_a_crate_fails() {
        let good = "[dependencies]\na.workspace = true\n[dev-dependencies]\nb = { workspace = true }\n";
        assert!(versions_in_one_place(&[manifest(good)]).problems().is_empty());
        for bad in [
            "[dependencies]\na = \"1\"",
            "[build-dependencies]\na = { path = \"a\" }",
            "[target.'cfg(unix)'.dependencies]\na = \"1\"",
        ] {
            assert_eq!(versions_in_one_place(&[manifest(bad)]).problems().len(), 1, "{bad}");
        }
        assert_eq!(versions_in_one_place(&[manifest("")]).problems().len(), 1);
    }

    #[test]
    fn a_dependency_without_a_reason_fails() {
        let good = "[workspace.dependencies]\nown = { path = \"own\" }\n# A group.\na = \"1\"  # what it is for\n\n[x]\nb = 1\n";
        let findings = reasons(&manifest(good));
        assert_eq!(findings.looked_at, 2);
        assert!(findings.problems().is_empty());
        assert_eq!(
            reasons(&manifest("[workspace.dependencies]\na = \"1\"\n")).problems(),
            ["Cargo.toml:2: a gives no reason after #"]
        );
        assert_eq!(reasons(&manifest("[workspace.dependencies]\na = \"1\" #\n")).problems().len(), 1);
        assert_eq!(reasons(&manifest("")).problems().len(), 1);
    }
}
