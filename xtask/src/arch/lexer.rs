//! Rust source without its comments and literals, so that a word in prose is not taken for a name in code.

/// The source with every comment, string and character literal blanked out. Lines keep their numbers.
pub(super) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_end(&chars, at),
            '"' => string_end(&chars, at),
            '\'' => char_end(&chars, at),
            'r' | 'b' | 'c' if !in_word(&chars, at) => raw_end(&chars, at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// The identifiers of code, each with its line, counted from 1. `r#name` is `name`.
pub(super) fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(number, line)| {
        line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .map(move |word| (number + 1, word))
    })
}

fn in_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n)
}

/// Block comments nest in Rust.
fn block_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// The end of a character literal, or `at` for a lifetime.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            // What follows the backslash may itself be a quote.
            let rest = chars.iter().enumerate().skip(at + 3);
            { rest }.find(|(_, c)| **c == '\'').map_or(chars.len(), |(i, _)| i + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// The end of a raw string (`r"…"`, `br#"…"#`), or `at` for anything else. Prefixed plain strings (`b"…"`) are left
/// to the quote that follows.
fn raw_end(chars: &[char], at: usize) -> usize {
    let r = if chars[at] == 'r' { at } else { at + 1 };
    if chars.get(r) != Some(&'r') {
        return at;
    }
    let hashes = chars[r + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(r + 1 + hashes) != Some(&'"') {
        return at;
    }
    let mut i = r + 2 + hashes;
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        identifiers(&code_only(source)).map(|(_, word)| word.to_owned()).collect()
    }

    #[test]
    fn prose_and_literals_vanish() {
        assert_eq!(words("a // tch\nb /* tch /* tch */ tch */ c"), ["a", "b", "c"]);
        assert_eq!(words(r#"a "tch \" tch" b"#), ["a", "b"]);
        assert_eq!(words("a r#\"tch \" tch\"# b br\"tch\" c"), ["a", "b", "c"]);
        assert_eq!(words(r"a '\'' b '\u{1F600}' c '/' d"), ["a", "b", "c", "d"]);
        assert_eq!(words(r"a '\\' b b'\'' c"), ["a", "b", "b", "c"]);
    }

    #[test]
    fn code_stays() {
        assert_eq!(words("use tch::Tensor;"), ["use", "tch", "Tensor"]);
        assert_eq!(
            words("fn f<'a>(x: &'a str, c: char) { c == 'a'; r#unsafe }"),
            ["fn", "f", "a", "x", "a", "str", "c", "char", "c", "r", "unsafe"]
        );
        assert_eq!(words("watch tch_ switch"), ["watch", "tch_", "switch"]);
    }

    #[test]
    fn lines_keep_their_numbers() {
        let code = code_only("/* one\ntwo */ \"three\nfour\"\nunsafe");
        assert_eq!(identifiers(&code).collect::<Vec<_>>(), [(4, "unsafe")]);
    }

    #[test]
    fn unfinished_literals_do_not_panic() {
        for source in ["\"abc", "/* abc", "'\\", "r#\"abc", "'", "\"\\", "b'", "r"] {
            code_only(source);
        }
    }
}
