//! When a response is over, and what of it is kept.

use sami_policy::{FinishReason, Sample, SamplingParams};

use super::Sequence;
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// The sample, if its newest token ended it.
pub(super) fn finished(
    sequence: &Sequence,
    tokenizer: &Tokenizer,
    params: &SamplingParams,
) -> Result<Option<Sample>> {
    let (ids, anchor) = (&sequence.generated, sequence.prompt.last().copied());
    let sample = |text, token_ids: Option<Vec<u32>>, finish| {
        let kept = token_ids.as_ref().map_or(0, Vec::len);
        let logps = params.logps.then(|| sequence.logps.iter().copied().take(kept).collect());
        Some(Sample { text, logps, token_ids, finish })
    };
    if ids.last().is_some_and(|last| tokenizer.eos().contains(last)) {
        let text = tokenizer.decode_after(anchor, &ids[..ids.len() - 1])?;
        return Ok(sample(text, Some(ids.clone()), FinishReason::Eos));
    }
    if let Some(longest) = params.stop.iter().map(String::len).max() {
        // A token is at least one byte of text, so a stop string that ends here began within as many tokens; some more, lest the
        // window begin inside a character.
        let from = ids.len().saturating_sub(longest + 8);
        let before = from.checked_sub(1).and_then(|index| ids.get(index)).copied().or(anchor);
        let tail = tokenizer.decode_after(before, &ids[from..])?;
        if params.stop.iter().any(|stop| tail.contains(stop.as_str())) {
            let text = tokenizer.decode_after(anchor, ids)?;
            if let Some(cut) = params.stop.iter().filter_map(|stop| text.find(stop.as_str())).min() {
                let text = text[..cut].to_owned();
                let token_ids = ids_of(&text, ids, anchor, tokenizer)?;
                return Ok(sample(text, token_ids, FinishReason::Stop));
            }
        }
    }
    if ids.len() >= sequence.limit {
        let text = tokenizer.decode_after(anchor, ids)?;
        return Ok(sample(text, Some(ids.clone()), FinishReason::Length));
    }
    Ok(None)
}

/// The first ids that decode to exactly `text`, if a token ends where it does.
fn ids_of(text: &str, ids: &[u32], anchor: Option<u32>, tokenizer: &Tokenizer) -> Result<Option<Vec<u32>>> {
    for end in (0..=ids.len()).rev() {
        let decoded = tokenizer.decode_after(anchor, &ids[..end])?;
        if decoded == text {
            return Ok(Some(ids[..end].to_vec()));
        }
        if decoded.len() < text.len() {
            break;
        }
    }
    Ok(None)
}
