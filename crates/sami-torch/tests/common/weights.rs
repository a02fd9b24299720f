//! Safetensors files that tests change.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// The tensors of a file, by name.
pub type Tensors = BTreeMap<String, Stored>;

/// A tensor as bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

impl Stored {
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), data }
    }

    /// The numbers of an f32 tensor.
    pub fn values(&self) -> Vec<f32> {
        assert_eq!(self.dtype, Dtype::F32);
        self.data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    /// Rows in the opposite order.
    pub fn turned(&self) -> Self {
        let row = self.data.len() / self.shape[0];
        let data = self.data.chunks(row).rev().flatten().copied().collect();
        Self { data, ..self.clone() }
    }
}

pub fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stored = |view: TensorView<'_>| Stored {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        data: view.data().to_vec(),
    };
    file.tensors().into_iter().map(|(name, view)| (name, stored(view))).collect()
}

pub fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, stored)| {
        (name.as_str(), TensorView::new(stored.dtype, stored.shape.clone(), &stored.data).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Changes `model.safetensors` of a checkpoint.
pub fn change(dir: &Path, edit: impl FnOnce(&mut Tensors)) {
    let path = dir.join("model.safetensors");
    let mut tensors = read(&path);
    edit(&mut tensors);
    write(&path, &tensors);
}

/// Gives the tensors of `model.safetensors` other names.
pub fn rename(dir: &Path, rule: impl Fn(&str) -> String) {
    change(dir, |tensors| {
        *tensors = std::mem::take(tensors).into_iter().map(|(name, tensor)| (rule(&name), tensor)).collect();
    });
}
