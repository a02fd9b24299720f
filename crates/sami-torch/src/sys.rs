//! The only unsafe code of the workspace: mapping a file into memory, and loading LibTorch's CUDA library.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

/// Maps a file read-only.
pub(crate) fn map_file(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: a map is undefined behaviour only if somebody truncates or rewrites the file while it is read. Checkpoint
    // files are written once and replaced by rename (as every tool that writes them does), so the mapped inode stays as
    // it is; bytes are copied out before use, and every offset is checked against the map's length.
    unsafe { Mmap::map(file) }
}

/// Loads a shared library for good: its symbols stay until the process ends.
pub(crate) fn load_library_forever(path: &Path) -> Result<(), libloading::Error> {
    // SAFETY: the path is LibTorch's own CUDA library beside the libtorch_cpu.so that this process already runs on; its
    // initialisers register kernels with that library and are made to be run by a dynamic loader at any time before
    // LibTorch's first use.
    let library = unsafe { libloading::Library::new(path) }?;
    // Unloading would leave LibTorch's dispatcher with dangling kernels.
    std::mem::forget(library);
    Ok(())
}
