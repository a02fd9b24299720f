//! Where a redirect leads.

/// What an answer says about another address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// Nothing.
    No,
    /// The same server has it there.
    To(String),
    /// Another server, or another scheme.
    Elsewhere(String),
}

/// What the answer to a request to `from` says. Only the same scheme, host and port get the same request.
pub(crate) fn redirect(from: &str, status: u16, location: Option<&str>) -> Redirect {
    // 303 asks for another kind of request, which no completion is.
    let (true, Some(location)) = (matches!(status, 301 | 302 | 307 | 308), location) else {
        return Redirect::No;
    };
    let location = location.trim();
    let Some((scheme, rest)) = from.split_once("://") else { return Redirect::No };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let origin = format!("{scheme}://{authority}");
    let path = if let Some(path) = without_prefix(location, &origin) {
        path
    } else if location.contains("://") || location.starts_with("//") {
        let same = without_prefix(location, &format!("//{authority}"));
        match same {
            Some(path) => path,
            None => return Redirect::Elsewhere(location.to_owned()),
        }
    } else {
        location
    };
    if path.is_empty() || path.starts_with(['/', '?', '#']) {
        return Redirect::To(format!("{origin}{path}"));
    }
    // Relative to the folder of the address.
    let folder = from.split(['?', '#']).next().unwrap_or(from);
    let end = folder.rfind('/').filter(|end| *end >= origin.len()).unwrap_or(origin.len());
    Redirect::To(format!("{}/{path}", &folder[..end]))
}

/// What follows the beginning of an address, if the host ends there.
fn without_prefix<'a>(location: &'a str, beginning: &str) -> Option<&'a str> {
    let head = location.get(..beginning.len())?;
    let rest = &location[beginning.len()..];
    let ends = rest.is_empty() || rest.starts_with(['/', '?', '#']);
    (head.eq_ignore_ascii_case(beginning) && ends).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_server_is_gone_to() {
        let from = "https://host:8000/v1/completions";
        let to = |location: &str| redirect(from, 308, Some(location));
        let here = |path: &str| Redirect::To(format!("https://host:8000{path}"));
        assert_eq!(to("/v1/completions/"), here("/v1/completions/"));
        assert_eq!(to("https://HOST:8000/v2/completions"), here("/v2/completions"));
        assert_eq!(to("//host:8000/x"), here("/x"));
        assert_eq!(to("other"), here("/v1/other"));
        for away in [
            "http://host:8000/v1/completions",
            "https://host/v1/completions",
            "https://host:8000.evil.example/v1",
            "https://host:8000@evil.example/v1",
            "//evil.example/v1",
        ] {
            assert_eq!(to(away), Redirect::Elsewhere(away.to_owned()), "{away}");
        }
        assert_eq!(redirect(from, 303, Some("/x")), Redirect::No);
        assert_eq!(redirect(from, 200, Some("/x")), Redirect::No);
        assert_eq!(redirect(from, 302, None), Redirect::No);
    }
}
