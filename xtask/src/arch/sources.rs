//! What the sources may and may not name.

use std::{fs, path::Path};

use super::{ArchError, Findings, lexer};

/// One Rust file: its path from the root with `/`, and its code without comments and literals.
#[derive(Debug)]
pub(super) struct Source {
    path: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), code: lexer::code_only(text) }
    }
}

/// The Rust files among `files`.
pub(super) fn read(root: &Path, files: &[String]) -> Result<Vec<Source>, ArchError> {
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.ends_with(".rs")) {
        let path = root.join(file);
        let text = fs::read_to_string(&path).map_err(|source| ArchError::Read { path, source })?;
        sources.push(Source::new(file, &text));
    }
    Ok(sources)
}

/// Only files under `dir` name one of `crates`, and at least one does.
pub(super) fn names_only_in(sources: &[Source], crates: &[&str], dir: &str) -> Findings {
    let mut findings = Findings::default();
    let names: Vec<String> = crates.iter().map(|name| name.replace('-', "_")).collect();
    let mut at_home = 0;
    for source in sources {
        findings.looked_at += 1;
        for (line, word) in
            lexer::identifiers(&source.code).filter(|(_, word)| names.iter().any(|name| name == word))
        {
            if source.path.starts_with(dir) {
                at_home += 1;
            } else {
                findings.wrong(format!("{}:{line} names {word}; only {dir} may", source.path));
            }
        }
    }
    if at_home == 0 {
        findings.wrong(format!("nothing under {dir} names {}: is the search broken?", names.join(" or ")));
    }
    findings
}

/// No file under `dir` names one of `forbidden`.
pub(super) fn names_none(sources: &[Source], dir: &str, forbidden: &[&str]) -> Findings {
    let mut findings = Findings::default();
    for source in sources.iter().filter(|source| source.path.starts_with(dir)) {
        findings.looked_at += 1;
        for (line, word) in lexer::identifiers(&source.code).filter(|(_, word)| forbidden.contains(word)) {
            findings.wrong(format!("{}:{line} names {word}", source.path));
        }
    }
    findings
}

/// `unsafe` occurs in `module` alone, and that file stays short.
pub(super) fn unsafe_only_in(sources: &[Source], module: &str, lines: usize) -> Findings {
    let mut findings = Findings::default();
    for source in sources {
        findings.looked_at += 1;
        if source.path == module {
            let length = source.code.lines().count();
            if length > lines {
                findings.wrong(format!("{module} has {length} lines; unsafe code stays in at most {lines}"));
            }
            continue;
        }
        for (line, _) in lexer::identifiers(&source.code).filter(|(_, word)| *word == "unsafe") {
            findings.wrong(format!("{}:{line} holds unsafe code; only {module} may", source.path));
        }
    }
    findings
}

/// No file of a library or program allows one of the lints that the workspace denies; tests, examples and benches may.
pub(super) fn lints_stay_on(sources: &[Source], lints: &[&str], exempt: &[(&str, &str)]) -> Findings {
    let mut findings = Findings::default();
    let in_src = |path: &str| path.starts_with("src/") || path.contains("/src/");
    for source in sources.iter().filter(|source| in_src(&source.path)) {
        findings.looked_at += 1;
        // Without blanks, an attribute that was broken over lines reads as one.
        let code: String = source.code.chars().filter(|c| !c.is_whitespace()).collect();
        let opened = code.match_indices("allow(").chain(code.match_indices("expect("));
        for (at, word) in opened {
            let attribute = code[..at].ends_with(['[', ',']) || code[..at].ends_with("cfg_attr(");
            let inside = code[at + word.len()..].split(')').next().unwrap_or_default();
            for lint in lints.iter().filter(|lint| attribute && inside.split(',').any(|name| name == **lint))
            {
                if !exempt.contains(&(source.path.as_str(), lint)) {
                    findings.wrong(format!("{} silences {lint}", source.path));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bindings_are_named_at_home_only() {
        let home = || Source::new("crates/sami-torch/src/lib.rs", "use tch::Tensor;");
        let prose = Source::new("src/lib.rs", "//! `tch` is behind sami-torch.\nfn watch() {}");
        assert!(
            names_only_in(&[home(), prose], &["tch", "torch-sys"], "crates/sami-torch/")
                .problems()
                .is_empty()
        );

        let abroad = Source::new("examples/x.rs", "\nlet t = torch_sys::f();");
        let problems =
            names_only_in(&[home(), abroad], &["tch", "torch-sys"], "crates/sami-torch/").problems();
        assert_eq!(problems, ["examples/x.rs:2 names torch_sys; only crates/sami-torch/ may"]);

        let nobody = [Source::new("src/lib.rs", "")];
        assert!(
            names_only_in(&nobody, &["tch"], "crates/sami-torch/").problems()[0]
                .contains("is the search broken")
        );
    }

    #[test]
    fn the_driver_may_speak_of_policies_but_not_name_them() {
        let clean = [Source::new(
            "crates/sami-driver/src/lib.rs",
            "//! sami_torch implements it\nuse sami_policy::*;",
        )];
        assert!(names_none(&clean, "crates/sami-driver/", &["sami_torch"]).problems().is_empty());
        let dirty = [Source::new("crates/sami-driver/tests/a.rs", "use sami_torch::TorchPolicy;")];
        assert_eq!(names_none(&dirty, "crates/sami-driver/", &["sami_torch"]).problems().len(), 1);
        assert_eq!(names_none(&[], "crates/sami-driver/", &["sami_torch"]).problems().len(), 1);
    }

    #[test]
    fn unsafe_code_has_one_home_and_it_is_small() {
        let home = |lines: usize| Source::new("m/cuda.rs", &"unsafe {}\n".repeat(lines));
        assert!(unsafe_only_in(&[home(5)], "m/cuda.rs", 5).problems().is_empty());
        assert_eq!(unsafe_only_in(&[home(6)], "m/cuda.rs", 5).problems().len(), 1);
        let abroad = Source::new("src/lib.rs", "#[unsafe(no_mangle)]\nfn f() { unsafe { g() } }");
        assert_eq!(unsafe_only_in(&[abroad], "m/cuda.rs", 5).problems().len(), 2);
    }

    #[test]
    fn silenced_lints_are_found_in_libraries() {
        let check = |path: &str, text: &str| {
            lints_stay_on(
                &[Source::new(path, text), Source::new("src/lib.rs", "")],
                &["missing_docs", "clippy::panic"],
                &[("src/cuda.rs", "missing_docs")],
            )
            .problems()
        };
        assert_eq!(check("src/a.rs", "#![allow(missing_docs)]"), ["src/a.rs silences missing_docs"]);
        assert_eq!(check("a/src/a.rs", "#[expect(\n  dead_code,\n  clippy::panic,\n)]").len(), 1);
        assert_eq!(check("a/src/a.rs", "#[cfg_attr(x, allow(clippy::panic))]").len(), 1);
        assert!(check("src/cuda.rs", "#![allow(missing_docs)]").is_empty());
        assert!(check("tests/a.rs", "#![allow(missing_docs)]").is_empty());
        assert!(check("src/a.rs", "value.expect(missing_docs)").is_empty());
    }
}
