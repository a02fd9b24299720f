//! Puts LibTorch's directory in the run path of this package's programs, tests, examples and benches. Link arguments
//! do not reach dependants, so `sami-torch` hands the directory on as build metadata. And tells the program its revision.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_SAMI_TORCH_RUN_PATH");
    // Absent where the package is built without the feature `torch`.
    if let Ok(run_path) = std::env::var("DEP_SAMI_TORCH_RUN_PATH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{run_path}");
    }
    revision();
}

/// The git revision, for what a run keeps of its origin. Release builds only: others would be built anew at every commit.
fn revision() {
    if std::env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return;
    }
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    if let (Some(head), Some(log)) =
        (git(&["rev-parse", "HEAD"]), git(&["rev-parse", "--git-path", "logs/HEAD"]))
    {
        println!("cargo:rerun-if-changed={log}");
        println!("cargo:rustc-env=SAMI_REVISION={head}");
    }
}
