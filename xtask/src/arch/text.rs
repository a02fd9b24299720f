//! Checks over every tracked text file.

use std::{fs, path::Path, process::Command};

use super::{ArchError, Findings};
use crate::repo::{self, Repo, RepoError};

/// Paths that exist on one machine only. Spelt in two pieces, so that this file does not find itself.
const MACHINE_DIRS: &[&str] =
    &[concat!("/t", "mp/"), concat!("/w", "ork/"), concat!("/r", "oot/"), concat!("/h", "ome/")];

/// Where packages come from is the business of each machine's own configuration.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("registry.npmjs", ".org"),
    concat!("deb.debian", ".org"),
    concat!("download.pytorch", ".org"),
];

/// Written by cargo, which names the registry of every package in it.
const WRITTEN_BY_TOOLS: &[&str] = &["Cargo.lock"];

/// The files under version control, and new ones that git does not ignore, as paths from the root with `/`.
pub(super) fn tracked(repo: &Repo) -> Result<Vec<String>, ArchError> {
    let mut command = Command::new("git");
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(repo.root());
    let output =
        command.output().map_err(|source| RepoError::Start { command: repo::display(&command), source })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ArchError::Output { command: repo::display(&command), message });
    }
    let files = String::from_utf8_lossy(&output.stdout);
    Ok(files
        .split('\0')
        .filter(|name| !name.is_empty() && repo.root().join(name).is_file())
        .map(str::to_owned)
        .collect())
}

/// No tracked text names a directory of one machine or the host of a package registry.
pub(super) fn no_machine_names(root: &Path, files: &[String]) -> Result<Findings, ArchError> {
    let mut findings = Findings::default();
    for file in files.iter().filter(|file| !WRITTEN_BY_TOOLS.contains(&file.as_str())) {
        let path = root.join(file);
        let bytes = fs::read(&path).map_err(|source| ArchError::Read { path, source })?;
        // Binary files are not text; a fixture in JSON is.
        if let Ok(text) = String::from_utf8(bytes) {
            findings.looked_at += 1;
            scan(&mut findings, file, &text);
        }
    }
    Ok(findings)
}

fn scan(findings: &mut Findings, file: &str, text: &str) {
    for (number, line) in text.lines().enumerate() {
        for dir in MACHINE_DIRS {
            for (at, _) in line.match_indices(dir) {
                // `crates/` + `work/` is no absolute path: what stands before must not be part of one.
                let before = line[..at].chars().next_back();
                let absolute = before.is_none_or(|c| !(c.is_alphanumeric() || "_-.}/*~".contains(c)));
                let after = line[at + dir.len()..].chars().next();
                if absolute && after.is_some_and(|c| c.is_alphanumeric() || "._-{$".contains(c)) {
                    findings.wrong(format!("{file}:{} names a path of one machine ({dir}…)", number + 1));
                }
            }
        }
        for host in REGISTRY_HOSTS.iter().filter(|host| line.contains(**host)) {
            findings.wrong(format!("{file}:{} names a registry's host ({host})", number + 1));
        }
    }
}

/// Who tells the same command: (file, what it must contain).
const COMMANDS: &[(&str, &str)] = &[
    ("README.md", "cargo xtask demo"),
    ("README.md", "cargo xtask test"),
    ("CONTRIBUTING.md", "cargo xtask check"),
    (".ci/run", "cargo xtask check"),
    (".github/workflows/ci.yml", ".ci/run"),
];

/// README, CI and the hosted workflow name the commands of xtask.
pub(super) fn commands_agree(root: &Path) -> Result<Findings, ArchError> {
    let mut findings = Findings::default();
    for (file, command) in COMMANDS {
        let path = root.join(file);
        let text = fs::read_to_string(&path).map_err(|source| ArchError::Read { path, source })?;
        findings.looked_at += 1;
        if !text.contains(command) {
            findings.wrong(format!("{file} does not mention `{command}`"));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> usize {
        let mut findings = Findings { looked_at: 1, ..Findings::default() };
        scan(&mut findings, "a.md", text);
        findings.problems().len()
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        for dir in MACHINE_DIRS {
            assert_eq!(problems(&format!("see {dir}x/y")), 1, "{dir}");
            assert_eq!(problems(&format!("\"{dir}x\" and ({dir}y)")), 2, "{dir}");
            // A relative path, a pattern, the bare directory.
            assert_eq!(problems(&format!("a{dir}x ..{dir}x ${{A}}{dir}x {dir}")), 0, "{dir}");
        }
    }

    #[test]
    fn hosts_of_registries_are_found() {
        for host in REGISTRY_HOSTS {
            assert_eq!(problems(&format!("https://{host}/simple")), 1, "{host}");
        }
        assert_eq!(problems("https://arxiv.org/abs/2404.14313"), 0);
    }

    #[test]
    fn files_are_read_and_binaries_passed_over() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.txt"), format!("x\n{}x", MACHINE_DIRS[0])).unwrap();
        fs::write(root.path().join("b.bin"), [0xff, 0xfe]).unwrap();
        let files = ["a.txt".to_owned(), "b.bin".to_owned()];
        let findings = no_machine_names(root.path(), &files).unwrap();
        assert_eq!(findings.looked_at, 1);
        assert!(findings.problems()[0].starts_with("a.txt:2 names a path of one machine"));
        assert_eq!(no_machine_names(root.path(), &[]).unwrap().problems().len(), 1);
    }

    #[test]
    fn a_file_that_lost_its_command_fails() {
        let root = tempfile::tempdir().unwrap();
        for (file, _) in COMMANDS {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "cargo xtask demo, cargo xtask test").unwrap();
        }
        assert_eq!(commands_agree(root.path()).unwrap().problems().len(), 3);
        fs::remove_file(root.path().join("README.md")).unwrap();
        assert!(commands_agree(root.path()).is_err());
    }
}
