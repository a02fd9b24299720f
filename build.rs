//! Puts LibTorch's directory in the run path of this package's programs, tests, examples and benches. Link arguments
//! do not reach dependants, so `sami-torch` hands the directory on as build metadata.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_SAMI_TORCH_RUN_PATH");
    // Absent where the package is built without the feature `torch`.
    if let Ok(run_path) = std::env::var("DEP_SAMI_TORCH_RUN_PATH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{run_path}");
    }
}
