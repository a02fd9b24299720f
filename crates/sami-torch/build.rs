//! Hands LibTorch's library directory on to whoever links a binary (`DEP_SAMI_TORCH_LIBTORCH_LIB`), and puts it
//! in the run path of this crate's own tests and examples.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    // Absent in torch-sys's doc-only mode, where nothing is linked.
    if let Ok(dir) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{dir}");
        println!("cargo:libtorch_lib={dir}");
    }
}
