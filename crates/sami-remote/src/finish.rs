//! Why an answer ended, in the words of many servers.

use sami_policy::FinishReason;

/// What a word for the end of an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The response is whole, or as long as was allowed.
    Ended(FinishReason),
    /// Somebody cut it off who may not do so the next time.
    BrokenOff,
    /// A content filter.
    Filtered,
    /// The server does not say.
    Unsaid,
    /// A word that means something else than a text, or nothing to us.
    Other,
}

// OpenAI, vLLM, SGLang and llama.cpp say "stop" and "length". The other words are those of TGI, Anthropic,
// Cohere, Gemini, Bedrock, Mistral, DeepSeek, Zhipu, AI21, Baidu, LM Studio and of gateways in front of them.
const EOS: [&str; 15] = [
    "stop",
    "eos",
    "eos_token",
    "eos_token_id",
    "eosfound",
    "eos_found",
    "end_turn",
    "end_of_turn",
    "end_of_text",
    "endoftext",
    "complete",
    "completed",
    "finish",
    "finished",
    "normal",
];
const STOP: [&str; 7] =
    ["stop_sequence", "stop_sequences", "stop_string", "stop_str", "stop_word", "stopstringfound", "word"];
const LENGTH: [&str; 12] = [
    "length",
    "max_tokens",
    "max_length",
    "max_new_tokens",
    "max_output_tokens",
    "max_completion_tokens",
    "model_length",
    "model_context_window_exceeded",
    "token_limit",
    "limit",
    "maxpredictedtokensreached",
    "contextlengthreached",
];
const BROKEN_OFF: [&str; 14] = [
    "abort",
    "aborted",
    "error",
    "error_limit",
    "cancel",
    "cancelled",
    "canceled",
    "user_cancel",
    "insufficient_system_resource",
    "network_error",
    "timeout",
    "load",
    "unload",
    "preempted",
];
const FILTERED: [&str; 18] = [
    "content_filter",
    "content_filtered",
    "contentfilter",
    "content-filter",
    "filtered",
    "safety",
    "recitation",
    "blocklist",
    "prohibited_content",
    "spii",
    "language",
    "image_safety",
    "refusal",
    "sensitive",
    "guardrail_intervened",
    "error_toxic",
    "violation",
    "moderation",
];

impl Finish {
    pub(crate) fn of(word: Option<&str>) -> Self {
        let word = word.unwrap_or_default().trim().to_ascii_lowercase();
        let is = |words: &[&str]| words.contains(&word.as_str());
        if is(&EOS) {
            Self::Ended(FinishReason::Eos)
        } else if is(&STOP) {
            Self::Ended(FinishReason::Stop)
        } else if is(&LENGTH) {
            Self::Ended(FinishReason::Length)
        } else if is(&BROKEN_OFF) {
            Self::BrokenOff
        } else if is(&FILTERED) {
            Self::Filtered
        } else if is(&["", "null", "none", "unspecified", "finish_reason_unspecified"]) {
            Self::Unsaid
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_many_servers_are_known() {
        use FinishReason::{Eos, Length, Stop};
        for (word, expected) in [
            ("stop", Finish::Ended(Eos)),
            ("eos_token", Finish::Ended(Eos)),
            ("end_turn", Finish::Ended(Eos)),
            ("STOP", Finish::Ended(Eos)),
            ("COMPLETE", Finish::Ended(Eos)),
            ("stop_sequence", Finish::Ended(Stop)),
            ("MAX_TOKENS", Finish::Ended(Length)),
            ("model_length", Finish::Ended(Length)),
            ("abort", Finish::BrokenOff),
            ("insufficient_system_resource", Finish::BrokenOff),
            ("SAFETY", Finish::Filtered),
            ("content_filter", Finish::Filtered),
            ("null", Finish::Unsaid),
            ("tool_calls", Finish::Other),
            ("because", Finish::Other),
        ] {
            assert_eq!(Finish::of(Some(word)), expected, "{word}");
        }
        assert_eq!(Finish::of(None), Finish::Unsaid);
    }
}
