//! Who depends on whom.

use std::collections::{BTreeMap, BTreeSet};

use super::{ArchError, Findings, metadata::Metadata, rules::Crate};
use crate::repo::{self, Repo, RepoError};

/// The table and the workspace hold the same crates.
pub(super) fn table_is_complete(metadata: &Metadata, table: &[Crate]) -> Findings {
    let mut findings = Findings::default();
    let members: BTreeSet<&str> = metadata.members().map(|package| package.name.as_str()).collect();
    let listed: BTreeSet<&str> = table.iter().map(|entry| entry.name).collect();
    findings.looked_at = members.len();
    for name in members.difference(&listed) {
        findings.wrong(format!("{name} is a crate of the workspace but not in xtask/src/arch/rules.rs"));
    }
    for name in listed.difference(&members) {
        findings.wrong(format!("{name} is in xtask/src/arch/rules.rs but not a crate of the workspace"));
    }
    findings
}

/// Every dependency between two crates of ours is in the table, those of tests and build scripts too.
pub(super) fn edges_are_allowed(metadata: &Metadata, table: &[Crate]) -> Findings {
    let mut findings = Findings::default();
    let members: BTreeSet<&str> = metadata.members().map(|package| package.name.as_str()).collect();
    for package in metadata.members() {
        let Some(entry) = table.iter().find(|entry| entry.name == package.name) else { continue };
        for dependency in package.dependencies.iter().filter(|d| members.contains(d.name.as_str())) {
            findings.looked_at += 1;
            let name = dependency.name.as_str();
            let dev = dependency.kind.as_deref() == Some("dev");
            // A crate may name itself in its tests, to switch features on.
            let itself = dev && name == package.name;
            if !(entry.may_use.contains(&name) || itself || dev && entry.dev_only.contains(&name)) {
                let kind = dependency.kind.as_deref().unwrap_or("normal");
                findings.wrong(format!("{} must not depend on {name} ({kind})", package.name));
            }
        }
    }
    findings
}

/// The crates of the workspace form no cycle; dev-dependencies, where cargo itself allows one, included.
pub(super) fn no_cycle(metadata: &Metadata) -> Findings {
    let mut findings = Findings::default();
    let members: BTreeSet<&str> = metadata.members().map(|package| package.name.as_str()).collect();
    let edges: BTreeMap<&str, BTreeSet<&str>> = metadata
        .members()
        .map(|package| {
            let to = package.dependencies.iter().map(|dependency| dependency.name.as_str());
            (package.name.as_str(), to.filter(|to| members.contains(to) && *to != package.name).collect())
        })
        .collect();
    for start in edges.keys() {
        findings.looked_at += 1;
        let reached = reachable(start, |name| edges.get(name).into_iter().flatten().copied());
        if reached.contains(start) {
            findings.wrong(format!("{start} depends on itself, by way of {}", join(&reached)));
        }
    }
    findings
}

/// No crate of `free` reaches the bindings in the resolved graph (all features, tests included); every crate of
/// `users` does.
pub(super) fn reach(metadata: &Metadata, free: &[&str], users: &[&str]) -> Findings {
    let mut findings = Findings::default();
    let names = metadata.names();
    let edges: BTreeMap<&str, &[String]> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node.dependencies.as_slice())).collect();
    for (name, wanted) in free.iter().map(|name| (*name, false)).chain(users.iter().map(|name| (*name, true)))
    {
        let Some(package) = metadata.members().find(|package| package.name == name) else {
            findings.wrong(format!("{name} is not a crate of the workspace"));
            continue;
        };
        findings.looked_at += 1;
        let reached = reachable(package.id.as_str(), |id| {
            edges.get(id).into_iter().copied().flatten().map(String::as_str)
        });
        let found = reached.iter().any(|id| names.get(id) == Some(&"tch"));
        match (found, wanted) {
            (true, false) => findings.wrong(format!("{name} reaches tch; it must build without LibTorch")),
            (false, true) => {
                findings.wrong(format!("{name} does not reach tch, though it should: is the search broken?"))
            }
            _ => {}
        }
    }
    findings
}

/// Only `owner` declares a dependency on one of `bindings`, and it does.
pub(super) fn direct_users(metadata: &Metadata, bindings: &[&str], owner: &str) -> Findings {
    let mut findings = Findings::default();
    for package in metadata.members() {
        for dependency in package.dependencies.iter().filter(|d| bindings.contains(&d.name.as_str())) {
            findings.looked_at += 1;
            if package.name != owner {
                findings.wrong(format!("{} depends on {}; only {owner} may", package.name, dependency.name));
            }
        }
    }
    findings
}

/// `cargo tree -p CRATE -i tch`: fails for sami-core and for the facade without its engine, succeeds for sami-torch.
pub(super) fn cargo_tree(repo: &Repo) -> Result<Findings, ArchError> {
    let mut findings = Findings::default();
    let cases: [(&[&str], bool); 3] = [
        (&["-p", "sami-core", "--all-features"], false),
        (&["-p", "sami", "--no-default-features"], false),
        (&["-p", "sami-torch"], true),
    ];
    for (args, wanted) in cases {
        let mut command = repo.cargo();
        // Dev-dependencies of the facade may bring the command, hence LibTorch; what is promised is the library.
        command.args(["tree", "--edges", "normal,build", "-i", "tch"]).args(args);
        let output = command
            .output()
            .map_err(|source| RepoError::Start { command: repo::display(&command), source })?;
        let message = String::from_utf8_lossy(&output.stderr);
        judge_tree(&mut findings, &repo::display(&command), output.status.success(), &message, wanted);
    }
    Ok(findings)
}

fn judge_tree(findings: &mut Findings, command: &str, success: bool, message: &str, wanted: bool) {
    findings.looked_at += 1;
    // Other reasons to fail (a broken manifest, no network) say nothing about the tree.
    let absent = !success && message.contains("did not match any packages")
        || success && message.contains("nothing to print");
    let present = success && !absent;
    match (present, absent, wanted) {
        (true, _, true) | (_, true, false) => {}
        (true, _, false) => findings.wrong(format!("`{command}` finds tch, which must not be there")),
        (_, true, true) => findings.wrong(format!("`{command}` does not find tch, which must be there")),
        (false, false, _) => {
            findings.wrong(format!("`{command}` failed for another reason: {}", message.trim()))
        }
    }
}

/// Everything that can be reached from `start` over at least one edge.
fn reachable<'a, I: Iterator<Item = &'a str>>(
    start: &'a str,
    edges: impl Fn(&'a str) -> I,
) -> BTreeSet<&'a str> {
    let (mut reached, mut pending) = (BTreeSet::new(), vec![start]);
    while let Some(name) = pending.pop() {
        for next in edges(name) {
            if reached.insert(next) {
                pending.push(next);
            }
        }
    }
    reached
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Crate] = &[
        Crate { name: "a", may_use: &[], dev_only: &[] },
        Crate { name: "b", may_use: &["a"], dev_only: &["c"] },
        Crate { name: "c", may_use: &["a", "b"], dev_only: &[] },
    ];

    #[test]
    fn a_workspace_that_follows_the_table_passes() {
        let good =
            Metadata::fake(&[("a", &[("ndarray", None)]), ("b", &[("a", None)]), ("c", &[("b", None)])]);
        assert!(table_is_complete(&good, TABLE).problems().is_empty());
        assert!(edges_are_allowed(&good, TABLE).problems().is_empty());
        assert!(no_cycle(&good).problems().is_empty());
    }

    #[test]
    fn a_crate_beside_the_table_and_a_row_without_a_crate_fail() {
        let metadata = Metadata::fake(&[("a", &[]), ("b", &[]), ("d", &[])]);
        let problems = table_is_complete(&metadata, TABLE).problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("d is a crate of the workspace"));
        assert!(problems[1].starts_with("c is in xtask"));
    }

    #[test]
    fn an_edge_against_the_flow_fails_whatever_its_kind() {
        for kind in [None, Some("dev"), Some("build")] {
            let metadata = Metadata::fake(&[("a", &[("b", kind)]), ("b", &[]), ("c", &[])]);
            assert_eq!(edges_are_allowed(&metadata, TABLE).problems().len(), 1, "{kind:?}");
        }
        let dev = Metadata::fake(&[("a", &[]), ("b", &[("c", Some("dev"))]), ("c", &[])]);
        assert!(edges_are_allowed(&dev, TABLE).problems().is_empty());
        let normal = Metadata::fake(&[("a", &[]), ("b", &[("c", None)]), ("c", &[])]);
        assert_eq!(edges_are_allowed(&normal, TABLE).problems(), ["b must not depend on c (normal)"]);
    }

    #[test]
    fn edges_and_cycles_of_an_empty_workspace_fail() {
        let empty = Metadata::fake(&[]);
        assert_eq!(edges_are_allowed(&empty, TABLE).problems().len(), 1);
        assert_eq!(no_cycle(&empty).problems().len(), 1);
        assert_eq!(direct_users(&empty, &["tch"], "t").problems().len(), 1);
    }

    #[test]
    fn a_cycle_through_a_dev_dependency_fails() {
        let metadata =
            Metadata::fake(&[("a", &[("c", Some("dev"))]), ("b", &[("a", None)]), ("c", &[("b", None)])]);
        let problems = no_cycle(&metadata).problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
    }

    #[test]
    fn libtorch_is_found_however_far_away() {
        let metadata = Metadata::fake(&[
            ("core", &[("mid", Some("dev"))]),
            ("mid", &[("torch", None)]),
            ("torch", &[("tch", None)]),
            ("free", &[("ndarray", None)]),
        ]);
        assert!(reach(&metadata, &["free"], &["torch", "mid"]).problems().is_empty());
        assert_eq!(
            reach(&metadata, &["core"], &[]).problems(),
            ["core reaches tch; it must build without LibTorch"]
        );
        assert!(reach(&metadata, &[], &["free"]).problems()[0].contains("is the search broken?"));
        assert!(reach(&metadata, &["gone"], &[]).problems()[0].contains("gone is not a crate"));
    }

    #[test]
    fn a_second_user_of_the_bindings_fails() {
        let metadata = Metadata::fake(&[("t", &[("tch", None)]), ("x", &[("torch-sys", Some("build"))])]);
        assert_eq!(
            direct_users(&metadata, &["tch", "torch-sys"], "t").problems(),
            ["x depends on torch-sys; only t may"]
        );
    }

    #[test]
    fn only_the_right_failure_of_cargo_tree_counts() {
        let problems = |success, message, wanted| {
            let mut findings = Findings::default();
            judge_tree(&mut findings, "cargo tree", success, message, wanted);
            findings.problems()
        };
        let absent = "error: package ID specification `tch` did not match any packages";
        assert!(problems(false, absent, false).is_empty());
        assert!(problems(true, "warning: nothing to print.", false).is_empty());
        assert!(problems(true, "", true).is_empty());
        assert_eq!(problems(true, "", false).len(), 1);
        assert_eq!(problems(false, absent, true).len(), 1);
        assert!(problems(false, "error: no network", false)[0].contains("another reason"));
    }
}
