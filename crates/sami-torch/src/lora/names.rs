//! Module names as PEFT matches them: regular expressions against the whole name, and lists of names or their ends.

use onig::{MatchParam, Regex, RegexOptions, SearchOptions, Syntax};
use serde_json::Value;

use super::error::AdapterError;

/// A regular expression in Python's syntax that must match a whole name.
pub(super) struct Pattern {
    field: &'static str,
    source: String,
    regex: Regex,
}

impl Pattern {
    pub(super) fn new(field: &'static str, source: &str) -> Result<Self, AdapterError> {
        // Both are compiled: "a)(b" must not become sound by what is put around it. `\Z` is Python's end of the text.
        let compile =
            |text: &str| Regex::with_options(text, RegexOptions::REGEX_OPTION_NONE, Syntax::python());
        let regex = compile(source).and_then(|_| compile(&format!("\\A(?:{source})\\Z")));
        let regex = regex.map_err(|error| AdapterError::Pattern {
            field,
            pattern: source.to_owned(),
            reason: error.description().to_owned(),
        })?;
        Ok(Self { field, source: source.to_owned(), regex })
    }

    /// `re.fullmatch`.
    pub(super) fn matches(&self, name: &str) -> Result<bool, AdapterError> {
        let options = SearchOptions::SEARCH_OPTION_NONE;
        // Gives up where backtracking takes too long.
        let found = self.regex.match_with_param(name, 0, options, None, MatchParam::default());
        match found {
            Ok(end) => Ok(end == Some(name.len())),
            Err(error) => Err(AdapterError::Pattern {
                field: self.field,
                pattern: self.source.clone(),
                reason: error.description().to_owned(),
            }),
        }
    }
}

/// Which modules a field names.
pub(super) enum Names {
    Pattern(Pattern),
    /// Full names, or what stands after a dot at their end.
    List(Vec<String>),
}

impl Names {
    pub(super) fn new(field: &'static str, value: &Value) -> Result<Self, AdapterError> {
        match value {
            Value::String(source) => Ok(Self::Pattern(Pattern::new(field, source)?)),
            value => Ok(Self::List(strings(field, value)?)),
        }
    }

    pub(super) fn matches(&self, name: &str) -> Result<bool, AdapterError> {
        match self {
            Self::Pattern(pattern) => pattern.matches(name),
            Self::List(list) => Ok(list.iter().any(|end| is_or_ends_in(name, end))),
        }
    }
}

/// Whether `end` is the whole name, or stands at its end after a dot.
pub(super) fn is_or_ends_in(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A list of texts.
pub(super) fn strings(field: &'static str, value: &Value) -> Result<Vec<String>, AdapterError> {
    let list = value.as_array().and_then(|list| {
        list.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    list.ok_or_else(|| AdapterError::Invalid {
        field,
        value: value.to_string(),
        expected: "a list of module names",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_whole_names_as_in_python() {
        let cases = [
            (r".*\.(q|v)_proj", "model.layers.0.self_attn.q_proj", true),
            (r".*\.(q|v)_proj", "model.layers.0.self_attn.q_proj.x", false),
            (r"q_proj", "model.layers.0.self_attn.q_proj", false),
            (r"a|ab", "ab", true),
            (r"^(?!.*layers\.0\.).*q_proj$", "model.layers.1.self_attn.q_proj", true),
            (r"^(?!.*layers\.0\.).*q_proj$", "model.layers.0.self_attn.q_proj", false),
            (r"(?P<x>a)b(?P=x)", "aba", true),
            (r".*layers\.[\d]{1,}\.(?:mlp)\.(?:(?:up_proj))", "model.layers.12.mlp.up_proj", true),
            (r"(?i)MODEL\.NORM", "model.norm", true),
        ];
        for (pattern, name, expected) in cases {
            let found = Pattern::new("target_modules", pattern).unwrap().matches(name).unwrap();
            assert_eq!(found, expected, "{pattern} {name}");
        }
        for broken in ["(", "a)(b", "[", "*"] {
            assert!(Pattern::new("target_modules", broken).is_err(), "{broken}");
        }
        let slow = Pattern::new("target_modules", r"(a*)*(a*)*(a*)*b").unwrap();
        assert!(!slow.matches(&"a".repeat(60)).is_ok_and(|matched| matched));
    }

    #[test]
    fn list_entries_are_whole_names_or_begin_after_a_dot() {
        let names = Names::List(vec!["proj".into(), "self_attn.q_proj".into(), "norm".into()]);
        let found = |name: &str| names.matches(name).unwrap();
        assert!(found("model.layers.0.self_attn.q_proj") && found("norm") && found("model.norm"));
        assert!(!found("model.layers.0.input_layernorm") && !found("model.layers.0.mlp.up_proj"));
    }
}
