//! Pieces of SVG.

use std::fmt::Write as _;

/// Another shape for each of the first four colours: they can be told apart without colour.
pub(super) fn marker(svg: &mut String, colour: usize, x: f64, y: f64) {
    let _ = match colour % 4 {
        0 => write!(svg, "<circle class=\"f{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\"/>"),
        1 => write!(
            svg,
            "<rect class=\"f{colour}\" x=\"{:.1}\" y=\"{:.1}\" width=\"6.6\" height=\"6.6\"/>",
            x - 3.3,
            y - 3.3
        ),
        2 => write!(svg, "<path class=\"f{colour}\" d=\"M{x:.1} {:.1}l4.3 7.5h-8.6z\"/>", y - 4.6),
        _ => write!(
            svg,
            "<path class=\"f{colour}\" d=\"M{x:.1} {:.1}l4.6 4.6l-4.6 4.6l-4.6 -4.6z\"/>",
            y - 4.6
        ),
    };
}

/// A name cut to `limit` characters.
pub(in crate::report) fn shortened(name: &str, limit: usize) -> String {
    if name.chars().count() <= limit {
        return name.to_owned();
    }
    let kept: String = name.chars().take(limit - 1).collect();
    format!("{kept}…")
}

/// Text for XML; characters that XML cannot hold are dropped.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_escaped() {
        assert_eq!(shortened("harmless-base-test", 9), "harmless…");
        assert_eq!(shortened("short", 9), "short");
        assert_eq!(escape("a < b & \"c\"\u{1}"), "a &lt; b &amp; &quot;c&quot; ");
    }
}
