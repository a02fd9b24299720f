//! Puts LibTorch's directory in the run path of this crate's tests and examples, and hands it on to the packages that
//! link programs: link arguments do not reach dependants, `links` metadata does (`DEP_SAMI_TORCH_RUN_PATH`).

use std::{env, fs, path::Path};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    // Absent in torch-sys's doc-only mode, where nothing is linked.
    let Ok(dir) = env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    let run_path = run_path(Path::new(&dir)).unwrap_or(dir);
    println!("cargo:rustc-link-arg=-Wl,-rpath,{run_path}");
    println!("cargo:run_path={run_path}");
}

/// The directory as torch-sys names it, then the one it really is, as a colon-separated list.
///
/// The first follows the link `.libtorch` when set-up changes it; the second still leads to LibTorch when the clone,
/// and with it the link, has moved.
fn run_path(dir: &Path) -> Option<String> {
    let real = fs::canonicalize(dir).ok()?;
    let (named, real) = (dir.to_str()?, real.to_str()?);
    Some(if named == real { named.to_owned() } else { format!("{named}:{real}") })
}
