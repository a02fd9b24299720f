//! The architecture checks: what `ARCHITECTURE.md` promises, held against the manifests and the sources.
//!
//! A check returns how many things it looked at and what is wrong with them. One that looked at nothing fails: a
//! check that matches nothing would pass for ever.

mod deps;
mod error;
mod lexer;
mod manifests;
mod metadata;
mod rules;
mod sources;
mod text;

pub(crate) use error::ArchError;

use crate::{repo::Repo, say};

/// What one check found.
#[derive(Debug, Default)]
struct Findings {
    looked_at: usize,
    wrong: Vec<String>,
}

impl Findings {
    fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    /// What is wrong, the check's having looked at nothing included.
    fn problems(mut self) -> Vec<String> {
        if self.looked_at == 0 {
            self.wrong.push("the check looked at nothing: it has lost its subject".to_owned());
        }
        self.wrong
    }
}

/// Runs every check; says all that is wrong before it fails.
pub(crate) fn check(repo: &Repo) -> Result<(), ArchError> {
    say::line("==> architecture checks");
    let metadata = metadata::Metadata::load(repo)?;
    let root = manifests::Manifest::read(repo.root(), "")?;
    let members = manifests::read_members(repo.root(), &metadata)?;
    let files = text::tracked(repo)?;
    let sources = sources::read(repo.root(), &files)?;

    let mut problems = 0;
    let mut report = |name: &str, findings: Findings| {
        let looked_at = findings.looked_at;
        let wrong = findings.problems();
        say::line(&format!(
            "  {} {name} ({looked_at} looked at)",
            if wrong.is_empty() { "ok  " } else { "FAIL" }
        ));
        for problem in &wrong {
            say::line(&format!("       {problem}"));
        }
        problems += wrong.len();
    };
    report("every crate stands in the table of crates", deps::table_is_complete(&metadata, rules::CRATES));
    report("crates depend only on those the table allows", deps::edges_are_allowed(&metadata, rules::CRATES));
    report("no cycle between crates", deps::no_cycle(&metadata));
    report(
        "LibTorch reaches only whom it may",
        deps::reach(&metadata, rules::LIBTORCH_FREE, rules::LIBTORCH_USERS),
    );
    report("cargo tree agrees about LibTorch", deps::cargo_tree(repo)?);
    report(
        "only sami-torch depends on the bindings",
        deps::direct_users(&metadata, rules::BINDINGS, rules::ENGINE),
    );
    report(
        "only sami-torch names the bindings",
        sources::names_only_in(&sources, rules::BINDINGS, rules::ENGINE_DIR),
    );
    report(
        "the driver names no concrete policy",
        sources::names_none(&sources, rules::DRIVER_DIR, rules::POLICIES),
    );
    report(
        "unsafe stays in its module",
        sources::unsafe_only_in(&sources, rules::UNSAFE_MODULE, rules::UNSAFE_LINES),
    );
    report(
        "no library silences the lints",
        sources::lints_stay_on(&sources, rules::LINTS, rules::LINT_EXEMPT),
    );
    report("the workspace denies what it must", manifests::workspace_lints(&root, rules::LINTS));
    report("every crate takes the workspace's lints", manifests::members_take_lints(&members));
    report("every crate states the MSRV", manifests::msrv(&root, &metadata));
    report("versions stand in one place", manifests::versions_in_one_place(&members));
    report("every dependency has its reason", manifests::reasons(&root));
    report("no path of a machine, no host of a registry", text::no_machine_names(repo.root(), &files)?);
    report("README, CI and xtask name the same commands", text::commands_agree(repo.root())?);

    if problems == 0 { Ok(()) } else { Err(ArchError::Violations { count: problems }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_at_nothing_is_a_problem() {
        assert_eq!(Findings::default().problems().len(), 1);
        assert!(Findings { looked_at: 1, wrong: vec![] }.problems().is_empty());
    }
}
