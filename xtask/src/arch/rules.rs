//! The rules as data. To change the architecture, change this file and `ARCHITECTURE.md` together.

/// A crate of the workspace, and the crates of ours that it may depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crate {
    pub(super) name: &'static str,
    pub(super) may_use: &'static [&'static str],
    /// Allowed in tests, examples and benches besides.
    pub(super) dev_only: &'static [&'static str],
}

const fn entry(name: &'static str, may_use: &'static [&'static str]) -> Crate {
    Crate { name, may_use, dev_only: &[] }
}

/// In the order of the pipeline; arrows point one way.
pub(super) const CRATES: &[Crate] = &[
    entry("sami-core", &[]),
    entry("sami-text", &[]),
    entry("sami-constitution", &["sami-text"]),
    entry("sami-data", &["sami-constitution"]),
    entry("sami-policy", &["sami-core", "sami-text"]),
    entry("sami-torch", &["sami-core", "sami-policy"]),
    entry("sami-remote", &["sami-policy"]),
    entry("sami-driver", &["sami-core", "sami-constitution", "sami-data", "sami-policy"]),
    Crate {
        name: "sami-eval",
        may_use: &["sami-core", "sami-data", "sami-policy"],
        // Tests of the probe need a task's rules for responses.
        dev_only: &["sami-constitution"],
    },
    entry("sami-sandbox", &["sami-core", "sami-constitution", "sami-data", "sami-policy", "sami-eval"]),
    entry(
        "sami-cli",
        &[
            "sami-core",
            "sami-text",
            "sami-constitution",
            "sami-data",
            "sami-policy",
            "sami-torch",
            "sami-remote",
            "sami-driver",
            "sami-eval",
            "sami-sandbox",
            "sami",
        ],
    ),
    Crate {
        name: "sami",
        may_use: &[
            "sami-core",
            "sami-constitution",
            "sami-data",
            "sami-policy",
            "sami-torch",
            "sami-remote",
            "sami-driver",
            "sami-eval",
            "sami-sandbox",
        ],
        // The tests at the top drive the installed command.
        dev_only: &["sami-cli"],
    },
    // Shows that the objective needs nothing but itself in somebody else's framework.
    entry("sami-in-candle", &["sami-core"]),
    entry("xtask", &[]),
];

/// The crates that bind LibTorch, by the names that manifests and sources use.
pub(super) const BINDINGS: &[&str] = &["tch", "torch-sys"];

/// The one crate that may name them, and its folder.
pub(super) const ENGINE: &str = "sami-torch";
pub(super) const ENGINE_DIR: &str = "crates/sami-torch/";

/// Must build without LibTorch, in tests too.
pub(super) const LIBTORCH_FREE: &[&str] = &[
    "sami-core",
    "sami-text",
    "sami-constitution",
    "sami-data",
    "sami-policy",
    "sami-remote",
    "sami-driver",
    "sami-eval",
    "sami-sandbox",
    "sami-in-candle",
    "xtask",
];

/// Must reach LibTorch: shows that the search finds what is there.
pub(super) const LIBTORCH_USERS: &[&str] = &["sami-torch", "sami-cli", "sami"];

/// The driver knows the traits of `sami-policy` and nobody who implements them.
pub(super) const DRIVER_DIR: &str = "crates/sami-driver/";
pub(super) const POLICIES: &[&str] =
    &["tch", "torch_sys", "sami_torch", "sami_remote", "sami_sandbox", "TorchPolicy", "TorchProvider"];

/// The only file that may hold unsafe code, and how long it may grow.
pub(super) const UNSAFE_MODULE: &str = "crates/sami-torch/src/sys.rs";
pub(super) const UNSAFE_LINES: usize = 120;

/// Denied in every crate.
pub(super) const LINTS: &[&str] = &[
    "missing_docs",
    "unsafe_code",
    "clippy::unwrap_used",
    "clippy::expect_used",
    "clippy::panic",
    "clippy::todo",
    "clippy::unimplemented",
];

/// Where one of them may be allowed: (file, lint). Nothing here may depend on what a user supplies.
pub(super) const LINT_EXEMPT: &[(&str, &str)] = &[
    (UNSAFE_MODULE, "unsafe_code"),
    // Parses files that are part of the program; a test parses each.
    ("crates/sami-constitution/src/task.rs", "clippy::expect_used"),
    ("crates/sami-sandbox/src/world.rs", "clippy::expect_used"),
];
