//! Text of language models: what they said, apart from what they thought.
//!
//! A crate of its own because judges and principle writers read such text, and neither knows the other.

/// How the families of models open and close a thought, in lower case. DeepSeek, Qwen, GLM, Phi and
/// most others write `<think>`; Mistral `[THINK]`; Kimi `◁think▷`; ByteDance's Seed and MiniMax put
/// their name in; EXAONE writes `<thought>`, Reka `<reasoning>`; Cohere, Apertus, MiniCPM, OpenThinker,
/// Gemma 4 and gpt-oss use special tokens; Granite plain sentences.
const TAGS: [(&str, &str); 19] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<unused94>", "<unused95>"),
    ("[think]", "[/think]"),
    ("◁think▷", "◁/think▷"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|thought_start|>", "<|thought_end|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("here is my thought process:", "here is my response:"),
];

/// What a model said after it had thought, or `None` where the text ends inside a thought: it was cut
/// off before there was an answer.
///
/// A thought opens at the beginning of a line. Some chat formats open it in the prompt, so that the text
/// holds the closing tag alone; everything before the last closing tag is thought.
///
/// ```
/// use sami_text::after_thought;
/// assert_eq!(after_thought("<think>A? No.</think>B"), Some("B"));
/// assert_eq!(after_thought("[THINK]A? No, wait"), None);
/// ```
pub fn after_thought(text: &str) -> Option<&str> {
    // ASCII alone, so that positions stay the same.
    let lower = text.to_ascii_lowercase();
    let closed = TAGS.iter().filter_map(|(_, close)| Some(lower.rfind(close)? + close.len())).max();
    let said = closed.unwrap_or(0);
    let opens = lower[said..].lines().any(|line| {
        let line = line.trim_start();
        TAGS.iter().any(|(open, _)| line.starts_with(open))
    });
    if opens { None } else { text.get(said..) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_familys_thoughts_are_left_out() {
        for (open, close) in TAGS {
            let whole = format!("{open}\nA? No.\n{close}\nB");
            assert_eq!(after_thought(&whole), Some("\nB"), "{open}");
            assert_eq!(after_thought(&whole.to_uppercase()), Some("\nB"), "{open}");
            // The prompt has opened it.
            assert_eq!(after_thought(&format!("A? No.{close}B")), Some("B"), "{open}");
            // Cut off.
            assert_eq!(after_thought(&format!("{open}\nFinal Response: A")), None, "{open}");
            assert_eq!(after_thought(&format!("{open}x{close}\n{open}Final Response: A")), None, "{open}");
        }
        let harmony = "<|channel|>analysis<|message|>A?<|end|><|start|>assistant<|channel|>final<|message|>B";
        assert_eq!(after_thought(harmony), Some("B"));
    }

    #[test]
    fn text_without_thoughts_is_what_it_is() {
        for text in ["", "B", "Ünïcode <b>", "A writes <think> in the middle of a line."] {
            assert_eq!(after_thought(text), Some(text));
        }
    }
}
