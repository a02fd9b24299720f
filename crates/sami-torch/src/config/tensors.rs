//! The tensors that a configuration asks for.

use super::ModelConfig;

impl ModelConfig {
    /// Number of parameters; a tied head counts once.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<i64>() as usize).sum()
    }

    /// Number of parameters of one decoder layer.
    pub(crate) fn layer_parameters(&self) -> usize {
        let own = |name: &str| name.starts_with("model.layers.0.");
        let tensors = self.tensors();
        let shapes = tensors.iter().filter(|(name, _)| own(name)).map(|(_, shape)| shape);
        shapes.map(|shape| shape.iter().product::<i64>() as usize).sum()
    }

    /// Every tensor of the checkpoint, in the order of the forward pass, with its shape.
    pub fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        let (hidden, inner) = (self.hidden_size as i64, self.intermediate_size as i64);
        let (heads, kv) =
            (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let (heads, kv, head_dim, vocab) =
            (heads as i64, kv as i64, self.head_dim as i64, self.vocab_size as i64);
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, hidden])];
        for layer in 0..self.num_hidden_layers {
            let mut push = |name: &str, shape: &[i64]| {
                tensors.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            };
            push("input_layernorm.weight", &[hidden]);
            for (name, rows) in [("q_proj", heads), ("k_proj", kv), ("v_proj", kv)] {
                push(&format!("self_attn.{name}.weight"), &[rows, hidden]);
                if self.family.qkv_bias {
                    push(&format!("self_attn.{name}.bias"), &[rows]);
                }
            }
            if self.family.qk_norm {
                push("self_attn.q_norm.weight", &[head_dim]);
                push("self_attn.k_norm.weight", &[head_dim]);
            }
            push("self_attn.o_proj.weight", &[hidden, heads]);
            if self.family.output_bias {
                push("self_attn.o_proj.bias", &[hidden]);
            }
            push("post_attention_layernorm.weight", &[hidden]);
            if let Some(mixture) = self.mixture {
                push("block_sparse_moe.gate.weight", &[mixture.experts as i64, hidden]);
                for expert in 0..mixture.experts {
                    for (name, rows, columns) in
                        [("w1", inner, hidden), ("w2", hidden, inner), ("w3", inner, hidden)]
                    {
                        push(&format!("block_sparse_moe.experts.{expert}.{name}.weight"), &[rows, columns]);
                    }
                }
                continue;
            }
            for (name, rows, columns) in
                [("gate_proj", inner, hidden), ("up_proj", inner, hidden), ("down_proj", hidden, inner)]
            {
                push(&format!("mlp.{name}.weight"), &[rows, columns]);
                if self.family.mlp_bias {
                    push(&format!("mlp.{name}.bias"), &[rows]);
                }
            }
        }
        tensors.push(("model.norm.weight".into(), vec![hidden]));
        if !self.tie_word_embeddings {
            tensors.push(("lm_head.weight".into(), vec![vocab, hidden]));
        }
        tensors
    }
}
