//! What a reader would stumble on, seen by Chromium at the sizes of a desk and of a phone, in light and in dark.

use std::path::PathBuf;
use std::process::Command;

use super::*;

const PROBES: &str = include_str!("../../../../../fixtures/report/probes.js");
const SIZES: [(&str, u32, u32); 2] = [("desktop", 1280, 900), ("phone", 390, 844)];
/// Blink's numbers for `prefers-color-scheme`.
const SCHEMES: [(&str, u8); 2] = [("dark", 0), ("light", 1)];

fn chromium() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Some(path.into());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .flat_map(|folder| ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name)))
        .find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: there is no Chromium; install it, or say where it is in CHROMIUM");
    }
    found
}

/// The problems of a page, each with the size and the scheme at which it shows.
fn problems(chromium: &Path, html: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    // The probes are a script, and the page allows none.
    let policy = html.find("<meta http-equiv=\"Content-Security-Policy\"").unwrap();
    let end = policy + html[policy..].find('>').unwrap() + 1;
    let escaped = format!("{}{}", &html[..policy], &html[end..]).replace('&', "&amp;").replace('"', "&quot;");
    let frames: String = SIZES
        .iter()
        .map(|(name, width, height)| {
            format!("<iframe title=\"{name}\" width=\"{width}\" height=\"{height}\" srcdoc=\"{escaped}\"></iframe>")
        })
        .collect();
    let wrapper = format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><pre id=\"found\"></pre>{frames}<script type=\"text/plain\" id=\"probes\">{PROBES}</script>\
         <script>addEventListener('load', () => {{
           const found = [];
           const probes = '(' + document.getElementById('probes').textContent + ')()';
           for (const frame of document.querySelectorAll('iframe')) {{
             const page = frame.contentWindow;
             page.document.querySelectorAll('details').forEach((one) => {{ one.open = true; }});
             const dark = page.matchMedia('(prefers-color-scheme: dark)').matches;
             found.push(`looked at ${{frame.title}}, ${{page.innerWidth}} px, ${{dark ? 'dark' : 'light'}}`);
             found.push(...page.eval(probes).map((problem) => `${{frame.title}}: ${{problem}}`));
           }}
           document.getElementById('found').textContent = found.join('\\n');
         }});</script>"
    );
    let path = dir.path().join("page.html");
    fs::write(&path, wrapper).unwrap();
    let mut all = Vec::new();
    for (scheme, number) in SCHEMES {
        let output = Command::new(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"])
            .arg(format!("--blink-settings=preferredColorScheme={number}"))
            .arg(format!("--user-data-dir={}", dir.path().join(scheme).display()))
            .arg(format!("file://{}", path.display()))
            .output()
            .unwrap();
        let dom = String::from_utf8_lossy(&output.stdout);
        let (_, rest) = dom.split_once("<pre id=\"found\">").unwrap();
        let (found, _) = rest.split_once("</pre>").unwrap();
        for (name, width, _) in SIZES {
            let looked = format!("looked at {name}, {width} px, {scheme}");
            assert!(found.lines().any(|line| line == looked), "{looked}: {found}");
        }
        let told = found.lines().filter(|line| !line.starts_with("looked at "));
        all.extend(told.map(|line| format!("{scheme}, {line}")));
    }
    all
}

#[test]
fn a_browser_finds_nothing_to_stumble_on() {
    let Some(chromium) = chromium() else { return };
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::new(dir.path());
    whole(&run);
    let html = fs::read_to_string(write_report(&run).unwrap().page).unwrap();
    assert_eq!(problems(&chromium, &html), Vec::<String>::new());
    // It would have seen them.
    let wrong =
        "<p style=\"color: #777; background: #888\">grey</p><p style=\"width: 500px\">wide</p></main>";
    let found = problems(&chromium, &html.replace("</main>", wrong));
    assert_eq!(found.iter().filter(|one| one.contains("contrast of P. is 1.")).count(), 4, "{found:?}");
    let wide: Vec<_> = found.iter().filter(|one| one.contains("wider than the screen")).collect();
    assert!(wide.len() == 2 && wide.iter().all(|one| one.contains("phone: ")), "{found:?}");
}
