//! Puts LibTorch's directory in the run path of this package's binaries, tests, examples and benches.
//! Link arguments do not reach dependants, so `sami-torch` hands the directory on as build metadata.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_SAMI_TORCH_LIBTORCH_LIB");
    if let Ok(dir) = std::env::var("DEP_SAMI_TORCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{dir}");
    }
}
