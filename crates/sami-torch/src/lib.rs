//! The LibTorch causal language model of SAMI: checkpoints, generation, contrast scoring, training.
