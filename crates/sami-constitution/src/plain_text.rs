//! Text as it is in a file, whatever system wrote the file.

use std::borrow::Cow;

/// A file's text without a byte order mark, with `\n` at the end of its lines: a model would read a
/// `\r` as a token of its own.
pub fn plain_text(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.contains('\r') {
        true => Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")),
        false => Cow::Borrowed(text),
    }
}
