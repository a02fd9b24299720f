//! One safetensors file by memory map.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use tch::{Kind, Tensor};

use super::WeightsError;
use super::files::look_inside;
use super::finite::{Range, all_within, describe};
use crate::error::{Error, Result};
use crate::sys::map_file;

/// An open file whose header is known to be right.
pub(super) struct Shard {
    path: PathBuf,
    map: Mmap,
    /// Header length in the file, header included: where the data begins.
    data_start: usize,
    metadata: Metadata,
}

/// A tensor as it lies in the file.
pub(super) struct View<'a> {
    pub(super) kind: Kind,
    pub(super) shape: Vec<i64>,
    pub(super) bytes: &'a [u8],
}

impl Shard {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let map = map_file(&file).map_err(Error::io(path))?;
        // Checks the header's length, its JSON, and that the offsets tile the file exactly.
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|source| {
            let source = look_inside(path, &map).unwrap_or(WeightsError::Header(source));
            Error::Weights { path: path.to_owned(), source }
        })?;
        Ok(Self { path: path.to_owned(), data_start: header + 8, map, metadata })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.metadata.tensors().into_keys().collect()
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    pub(super) fn view(&self, name: &str) -> Result<View<'_>, WeightsError> {
        let outside =
            || WeightsError::NotInShard { tensor: name.to_owned(), file: self.path.display().to_string() };
        let info = self.metadata.info(name).ok_or_else(outside)?;
        let kind = match info.dtype {
            safetensors::Dtype::F32 => Kind::Float,
            safetensors::Dtype::BF16 => Kind::BFloat16,
            safetensors::Dtype::F16 => Kind::Half,
            safetensors::Dtype::F64 => Kind::Double,
            // The trainer's own state: the step counter.
            safetensors::Dtype::I64 => Kind::Int64,
            other => {
                return Err(WeightsError::Dtype { tensor: name.to_owned(), dtype: format!("{other:?}") });
            }
        };
        let (start, end) = info.data_offsets;
        let bytes = self.map.get(self.data_start + start..self.data_start + end).ok_or_else(outside)?;
        Ok(View { kind, shape: info.shape.iter().map(|&size| size as i64).collect(), bytes })
    }

    /// Copies a tensor, or a part of one, out of the map, if every number in it lies within the range.
    pub(super) fn copy(&self, name: &str, view: &View<'_>, range: Range) -> Result<Tensor> {
        let right = all_within(view.bytes, view.kind, range);
        let tensor = Tensor::f_from_data_size(view.bytes, &view.shape, view.kind)?;
        if right {
            return Ok(tensor);
        }
        Err(Error::Weights { path: self.path.clone(), source: describe(&tensor, name)? })
    }
}

/// A single safetensors file of ours, all tensors by name (the trainer's state, or adapters).
pub(crate) struct StateReader(Shard);

impl StateReader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self(Shard::open(path)?))
    }

    /// Names of all tensors.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.names()
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<Tensor> {
        if !self.0.holds(name) {
            return Err(self.fail(WeightsError::State(name.to_owned())));
        }
        let view = self.0.view(name).map_err(|source| self.fail(source))?;
        self.0.copy(name, &view, Range::Finite)
    }

    /// Refuses a file that does not hold exactly these tensors; reads no data.
    pub(crate) fn check(&self, expected: &[(String, Vec<i64>)]) -> Result<()> {
        for (name, shape) in expected {
            if !self.0.holds(name) {
                return Err(self.fail(WeightsError::State(name.clone())));
            }
            let got = self.0.view(name).map_err(|source| self.fail(source))?.shape;
            if got != *shape {
                let (tensor, expected) = (name.clone(), shape.clone());
                return Err(self.fail(WeightsError::StateShape { tensor, got, expected }));
            }
        }
        let mut names = self.0.names();
        names.sort();
        match names.into_iter().find(|name| expected.iter().all(|(known, _)| known != name)) {
            Some(name) => Err(self.fail(WeightsError::StateUnknown(name))),
            None => Ok(()),
        }
    }

    fn fail(&self, source: WeightsError) -> Error {
        Error::Weights { path: self.0.path.clone(), source }
    }
}
