//! What is installed: the pinned wheels, and which of their files make a LibTorch directory.

use std::path::Path;

use super::SetupError;

/// The LibTorch that tch 0.24 binds.
pub(super) const VERSION: &str = "2.11.0";

/// Part of the directory's name and manifest: raised when the recipe below changes.
pub(super) const RECIPE: u32 = 1;

const CPU: &str = include_str!("requirements-cpu.txt");
const CUDA: &str = include_str!("requirements-cuda.txt");

/// A linker script: the wheel's own libtorch.so would pull libtorch_cuda.so into every binary.
pub(super) const LIBTORCH_SO: &str = "INPUT(libtorch_cpu.so)\n";

/// With or without the CUDA libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    Cpu,
    Cuda,
}

impl Flavor {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda13",
        }
    }

    /// The directory's name in a cache.
    pub(super) fn directory(self, arch: Arch) -> String {
        format!("libtorch-{VERSION}-{}-{}", self.name(), arch.name())
    }

    /// The flavor of an installation of ours, told by its directory's name; `None` for anybody else's.
    pub(super) fn of_installation(dir: &Path) -> Option<Self> {
        let arch = Arch::current().ok()?;
        [Self::Cpu, Self::Cuda].into_iter().find(|flavor| dir.ends_with(flavor.directory(arch)))
    }

    /// pip's requirements, every wheel with its hashes.
    pub(super) fn requirements(self) -> String {
        match self {
            Self::Cpu => CPU.to_owned(),
            Self::Cuda => format!("{CPU}{CUDA}"),
        }
    }

    /// The packages of the requirements, in order.
    pub(super) fn packages(self) -> Vec<String> {
        self.requirements()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once("==").map(|(name, _)| name.to_owned()))
            .collect()
    }

    /// About how much is downloaded, and how much remains on disk, in MB.
    pub(super) fn megabytes(self) -> (u64, u64) {
        match self {
            Self::Cpu => (544, 500),
            Self::Cuda => (2_512, 3_800),
        }
    }
}

/// A processor that PyTorch publishes Linux wheels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// The processor of this machine, if wheels for it and its operating system are pinned here.
    pub(super) fn current() -> Result<Self, SetupError> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => Ok(Self::X86_64),
            ("linux", "aarch64") => Ok(Self::Aarch64),
            (os, arch) => Err(SetupError::Platform { os, arch }),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The platform tags of the pinned wheels; pip matches them literally.
    pub(super) fn platforms(self) -> Vec<String> {
        ["_2_28", "_2_27", "_2_25", "_2_18", "_2_17", "_2_12", "_2_5", "2014", "2010", "1"]
            .iter()
            .map(|tag| format!("manylinux{tag}_{}", self.name()))
            .collect()
    }

    /// The libraries in PyTorch's wheel that libtorch_cpu.so needs, itself first.
    fn cpu_libraries(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["libtorch_cpu.so", "libc10.so", "libgomp.so.1"],
            Self::Aarch64 => &[
                "libtorch_cpu.so",
                "libc10.so",
                "libgomp.so.1",
                "libarm_compute.so",
                "libarm_compute_graph.so",
                "libgfortran.so.5",
                "libnvpl_blas_core.so.0",
                "libnvpl_blas_lp64_gomp.so.0",
                "libnvpl_lapack_core.so.0",
                "libnvpl_lapack_lp64_gomp.so.0",
            ],
        }
    }
}

/// Rules for `unpack.py`: which files of a package's wheel go where. All libraries end in one `lib`, where the run
/// path `$ORIGIN` that they carry finds them.
pub(super) fn rules(package: &str, flavor: Flavor, arch: Arch) -> Vec<String> {
    // Not every wheel carries its licence.
    let mut rules = vec!["?*.dist-info/*[Ll][Ii][Cc][Ee][Nn][Ss][Ee]*=licenses".to_owned()];
    match (package, flavor) {
        ("torch", _) => {
            rules.push("torch/include/*=include".to_owned());
            rules.extend(arch.cpu_libraries().iter().map(|name| format!("torch/lib/{name}=lib")));
            if flavor == Flavor::Cuda {
                for pattern in
                    ["libtorch_cuda*.so", "libc10_cuda.so", "libcaffe2_nvrtc.so", "libtorch_nvshmem.so"]
                {
                    rules.push(format!("torch/lib/{pattern}=lib"));
                }
            }
        }
        ("nvidia-cuda-runtime", Flavor::Cpu) => rules.push("nvidia/*/lib/libcudart.so.13=lib".to_owned()),
        ("nvidia-cuda-cupti", Flavor::Cpu) => rules.push("nvidia/*/lib/libcupti.so.13=lib".to_owned()),
        _ => rules.push("nvidia/*/lib/*.so*=lib".to_owned()),
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned_with_a_version_and_two_hashes() {
        for flavor in [Flavor::Cpu, Flavor::Cuda] {
            let requirements = flavor.requirements();
            let lines: Vec<_> = requirements.lines().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(lines.len(), flavor.packages().len());
            for line in lines {
                let hashes: Vec<_> = line.split("--hash=sha256:").skip(1).map(str::trim).collect();
                assert_eq!(hashes.len(), 2, "{line}");
                assert!(
                    hashes.iter().all(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
                );
            }
        }
    }

    #[test]
    fn the_cpu_recipe_takes_no_cuda_library_of_pytorch() {
        let rules = rules("torch", Flavor::Cpu, Arch::X86_64);
        assert!(rules.contains(&"torch/lib/libtorch_cpu.so=lib".to_owned()));
        assert!(!rules.iter().any(|rule| rule.contains("cuda")), "{rules:?}");
    }

    #[test]
    fn torch_is_the_version_that_tch_binds() {
        assert!(Flavor::Cpu.requirements().contains(&format!("torch=={VERSION} ")));
        assert_eq!(Flavor::Cpu.packages(), ["torch", "nvidia-cuda-runtime", "nvidia-cuda-cupti"]);
        assert_eq!(Flavor::Cuda.packages().len(), 16);
    }
}
