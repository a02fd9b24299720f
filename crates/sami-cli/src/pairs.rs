//! What a file of pairs holds.

use std::path::Path;

use sami_data::PairReader;
use sami_torch::PromptFormat;

use crate::failure::Failure;

/// Reads the whole file: what the prompts of its kept sets are. A file that mixes both kinds of prompts
/// is refused, for a model is opened for one.
pub(crate) fn prompt_format(path: &Path) -> Result<PromptFormat, Failure> {
    let (mut raw, mut turns) = (0, 0);
    for record in PairReader::open(path)? {
        let record = record?;
        match (record.is_kept(), record.chat) {
            (false, _) => {}
            (true, false) => raw += 1,
            (true, true) => turns += 1,
        }
    }
    if raw > 0 && turns > 0 {
        let reason = format!(
            "{} has {raw} sets of prompts to continue and {turns} of a user's turns (\"chat\": true); make it two files",
            path.display()
        );
        return Err(Failure::Argument { argument: "--pairs", reason });
    }
    Ok(if turns > 0 { PromptFormat::UserTurn } else { PromptFormat::Raw })
}
