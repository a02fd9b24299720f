//! Devices: the processor always; a GPU where LibTorch's CUDA library can be loaded.
//!
//! A binary links LibTorch's CPU library alone, so one binary serves both. Asking for a CUDA device loads `libtorch_cuda.so`
//! from the directory of the `libtorch_cpu.so` that this process runs on. That must come before the process's first
//! LibTorch call, for LibTorch looks for its CUDA hooks once and remembers.

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::options::Device;
use crate::sys::load_library_forever;

/// What this machine and this LibTorch offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// The LibTorch that this build is made for.
    pub libtorch: &'static str,
    /// Where the running LibTorch lies.
    pub library: Option<PathBuf>,
    /// Threads that compute.
    pub threads: usize,
    /// CUDA devices that can be used.
    pub cuda_devices: usize,
    /// Why there are none.
    pub cuda_note: Option<String>,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "LibTorch      {}", self.libtorch)?;
        match &self.library {
            Some(path) => writeln!(f, "library       {}", path.display())?,
            None => writeln!(f, "library       (not found among the loaded libraries)")?,
        }
        writeln!(f, "threads       {}", self.threads)?;
        write!(f, "CUDA devices  {}", self.cuda_devices)?;
        if let Some(note) = &self.cuda_note {
            write!(f, " ({note})")?;
        }
        Ok(())
    }
}

/// Whether this processor has instructions for products of bf16 numbers.
pub(crate) fn computes_bf16_natively() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("bf16")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

/// Looks at what there is. Loads the CUDA library if it is there, so call it before anything else or not at all.
pub fn environment() -> Environment {
    let cuda = load_cuda();
    let cuda_devices = match &cuda {
        Ok(()) => usize::try_from(tch::Cuda::device_count()).unwrap_or(0),
        Err(_) => 0,
    };
    let cuda_note = match cuda {
        Err(reason) => Some(reason),
        Ok(()) if cuda_devices == 0 => {
            Some("LibTorch's CUDA library is loaded, but it sees no device".into())
        }
        Ok(()) => None,
    };
    Environment {
        libtorch: "2.11.0",
        library: libtorch_cpu(),
        threads: usize::try_from(tch::get_num_threads()).unwrap_or(1),
        cuda_devices,
        cuda_note,
    }
}

/// Threads of every policy that is opened from here on; results depend on their number in the last bits.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX).max(1));
}

pub(crate) fn to_tch(device: Device) -> Result<tch::Device> {
    let Device::Cuda(index) = device else { return Ok(tch::Device::Cpu) };
    let refuse = |reason: String| Error::Device { device: device.to_string(), reason };
    load_cuda().map_err(refuse)?;
    let count = tch::Cuda::device_count();
    if i64::try_from(index).is_ok_and(|index| index < count) {
        Ok(tch::Device::Cuda(index))
    } else {
        Err(refuse(format!(
            "this machine has {count} CUDA devices that LibTorch can use; choose another or cpu"
        )))
    }
}

/// Loads LibTorch's CUDA library once; the outcome holds for the process.
fn load_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            let cpu = libtorch_cpu().ok_or("libtorch_cpu.so is not among the loaded libraries")?;
            // The real path: beside links to the CPU library alone there is no CUDA library.
            let cpu = cpu.canonicalize().map_err(|error| format!("{}: {error}", cpu.display()))?;
            let cuda = cpu.with_file_name("libtorch_cuda.so");
            if !cuda.is_file() {
                return Err(format!(
                    "{} is a CPU build; run `cargo xtask setup --cuda`, or set LIBTORCH (and LD_LIBRARY_PATH) to a CUDA build of 2.11.0",
                    cpu.display()
                ));
            }
            load_library_forever(&cuda).map_err(|error| format!("{}: {error}", cuda.display()))
        })
        .clone()
}

/// Where the running `libtorch_cpu.so` lies.
#[cfg(target_os = "linux")]
fn libtorch_cpu() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    line.find('/').map(|start| PathBuf::from(&line[start..]))
}

#[cfg(not(target_os = "linux"))]
fn libtorch_cpu() -> Option<PathBuf> {
    None
}
