//! How much memory a process can still take.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::options::Device;

/// What is free, and who says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FreeMemory {
    /// Bytes that a new process could take.
    pub bytes: u64,
    /// The tightest limit.
    pub limit: MemoryLimit,
}

/// Where [`FreeMemory`] was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryLimit {
    /// `MemAvailable` of the system: free pages, and caches that it would give up.
    System,
    /// The limit of a control group (a container's, a batch job's), less what it holds and would not give up.
    ControlGroup(PathBuf),
    /// A GPU's own memory, as its driver says.
    Gpu(usize),
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("available on this machine"),
            Self::ControlGroup(path) => write!(f, "left by the control group {}", path.display()),
            Self::Gpu(index) => write!(f, "free on cuda:{index}"),
        }
    }
}

/// What is free on a device now; `None` where nobody can tell (another system than Linux, a GPU without nvidia-smi).
pub fn free_memory(device: Device) -> Option<FreeMemory> {
    match device {
        Device::Cpu => host(Path::new("/proc"), Path::new("/sys/fs/cgroup")),
        Device::Cuda(index) => gpu(index),
    }
}

fn host(proc: &Path, cgroup: &Path) -> Option<FreeMemory> {
    let available = read(&proc.join("meminfo"))?;
    let system = FreeMemory { bytes: kibibytes(&available, "MemAvailable:")?, limit: MemoryLimit::System };
    let groups = read(&proc.join("self/cgroup")).unwrap_or_default();
    control_groups(&groups, cgroup).chain([system]).min_by_key(|free| free.bytes)
}

/// What every control group that this process is in leaves, from the innermost outwards.
fn control_groups<'a>(groups: &'a str, root: &'a Path) -> impl Iterator<Item = FreeMemory> + 'a {
    groups.lines().flat_map(move |line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) =
            (fields.next(), fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        // Version 2 has one hierarchy without a name; version 1 has one for memory.
        let layout = match controllers {
            "" => Some((root.to_owned(), ["memory.max", "memory.current", "inactive_file", "active_file"])),
            _ if controllers.split(',').any(|name| name == "memory") => {
                let names = [
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                    "total_inactive_file",
                    "total_active_file",
                ];
                Some((root.join("memory"), names))
            }
            _ => None,
        };
        let path = Path::new(path.trim_start_matches('/'));
        layout.into_iter().flat_map(move |(root, names)| {
            let inner = path.ancestors().map(|path| root.join(path)).collect::<Vec<_>>();
            inner.into_iter().filter_map(move |group| left(&group, names))
        })
    })
}

fn left(group: &Path, [limit, usage, inactive, active]: [&str; 4]) -> Option<FreeMemory> {
    let number = |name: &str| read(&group.join(name))?.trim().parse::<u64>().ok();
    // "max" is no number, and version 1 writes a huge one for no limit.
    let limit = number(limit).filter(|&limit| limit < 1 << 60)?;
    let statistics = read(&group.join("memory.stat")).unwrap_or_default();
    let cached = |name: &str| {
        let line = statistics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let held = number(usage)?.saturating_sub(cached(inactive) + cached(active));
    Some(FreeMemory { bytes: limit.saturating_sub(held), limit: MemoryLimit::ControlGroup(group.to_owned()) })
}

fn gpu(index: usize) -> Option<FreeMemory> {
    // CUDA numbers the devices that this variable leaves; nvidia-smi numbers all, and takes names too.
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let names: Vec<&str> = visible.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let id = if names.is_empty() { index.to_string() } else { (*names.get(index)?).to_owned() };
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=memory.free", "--format=csv,noheader,nounits", "-i", &id])
        .output()
        .ok()?;
    let mebibytes: u64 = std::str::from_utf8(&output.stdout).ok()?.lines().next()?.trim().parse().ok()?;
    Some(FreeMemory { bytes: mebibytes << 20, limit: MemoryLimit::Gpu(index) })
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_tightest_limit_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, cgroup) = (dir.path().join("proc"), dir.path().join("cgroup"));
        let host = || host(&proc, &cgroup).unwrap();
        assert_eq!(super::host(&proc, &cgroup), None);
        write(
            &proc,
            &[("meminfo", "MemTotal:  9000 kB\nMemAvailable:    4000 kB\n"), ("self/cgroup", "0::/a/b\n")],
        );
        assert_eq!(host(), FreeMemory { bytes: 4000 << 10, limit: MemoryLimit::System });
        // Without a limit of its own, a group has its parent's.
        write(
            &cgroup,
            &[
                ("a/b/memory.max", "max\n"),
                ("a/b/memory.current", "10\n"),
                ("a/memory.max", "3000000\n"),
                ("a/memory.current", "2000000\n"),
                ("a/memory.stat", "anon 1\ninactive_file 600000\nactive_file 100000\n"),
            ],
        );
        assert_eq!(
            host(),
            FreeMemory { bytes: 1_700_000, limit: MemoryLimit::ControlGroup(cgroup.join("a")) }
        );
        // Version 1: limits of other controllers do not matter, nor does the number for "none".
        write(&proc, &[("self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/job\n")]);
        write(
            &cgroup,
            &[
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/memory.usage_in_bytes", "1\n"),
                ("memory/job/memory.limit_in_bytes", "2000000\n"),
                ("memory/job/memory.usage_in_bytes", "2500000\n"),
                ("memory/job/memory.stat", "inactive_file 5\ntotal_inactive_file 1000000\n"),
            ],
        );
        let job = MemoryLimit::ControlGroup(cgroup.join("memory/job"));
        assert_eq!(host(), FreeMemory { bytes: 500_000, limit: job });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory() {
        assert!(free_memory(Device::Cpu).unwrap().bytes > 1 << 20);
        assert_eq!(free_memory(Device::Cuda(4096)), None);
    }
}
