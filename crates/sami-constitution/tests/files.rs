//! Principles, contrast files and their errors, to the word.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers outside #[test] functions")]

use std::path::PathBuf;

use sami_constitution::{
    ContrastFile, Principle, PrincipleSet, QueryConstitutions, SeedTemplate, Stance, Task, WriterBuilder,
};

#[test]
fn the_default_set_is_valid_and_survives_its_file() {
    let set = PrincipleSet::helpful_harmless();
    // The embedded set is not checked when it is made.
    assert_eq!(PrincipleSet::new(set.principles().to_vec()).unwrap(), set);
    let names: Vec<_> = set.principles().iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["helpful", "harmless"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("principles.toml");
    std::fs::write(&path, set.to_toml().unwrap()).unwrap();
    assert_eq!(PrincipleSet::load(&path).unwrap(), set);
}

#[test]
fn wrong_principles_are_refused_with_their_line() {
    let cases = [
        ("", "there is no principle; write at least one [[principle]] with name, statements and antitheses"),
        (
            "[[principle]]\nname = \"a\"\nstatement = []",
            "line 3: unknown field `statement`, expected one of `name`, `statements`, `antitheses`",
        ),
        ("[[principle]]\nname = \"a\"\nstatements = [\"x\"]", "line 1: missing field `antitheses`"),
        ("[[principle]]\nname = a", "line 2: string values must be quoted, expected literal string"),
        (
            "\n[[principle]]\nname = \"not-a\"\nstatements = [\"x\"]\nantitheses = [\"y\"]",
            "line 2: principle name \"not-a\" cannot be used; use letters, digits, \"-\", \"_\" and spaces, and do not begin with \"not-\"",
        ),
        (
            "[[principle]]\nname = \"a+b\"\nstatements = [\"x\"]\nantitheses = [\"y\"]",
            "line 1: principle name \"a+b\" cannot be used; use letters, digits, \"-\", \"_\" and spaces, and do not begin with \"not-\"",
        ),
        (
            "[[principle]]\nname = \"a\"\nstatements = []\nantitheses = [\"y\"]",
            "line 1: principle a has no statements; write at least one",
        ),
        (
            "[[principle]]\nname = \"a\"\nstatements = [\"x\"]\nantitheses = [\"y\", \" \"]",
            "line 1: principle a: antitheses[1] is empty; write a sentence or remove it",
        ),
        (
            "[[principle]]\nname = \"a\"\nstatements = [\"x\\ny\"]\nantitheses = [\"y\"]",
            "line 1: principle a: statements[0] has more than one line; join its lines",
        ),
        (
            "[[principle]]\nname = \"a\"\nstatements = [\"x\"]\nantitheses = [\"x \"]",
            "line 1: principle a: the wording \"x\" is there twice; keep one",
        ),
        (
            "[[principle]]\nname = \"a\"\nstatements = [\"x\"]\nantitheses = [\"y\"]\n\n[[principle]]\nname = \"a\"\nstatements = [\"x\"]\nantitheses = [\"y\"]",
            "line 6: principle a appears twice; give each its own name and list its wordings under one",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(PrincipleSet::from_toml(text).unwrap_err().to_string(), expected, "{text}");
    }
    let many = (0..64).map(|i| Principle {
        name: format!("p{i}"),
        statements: vec!["x".into()],
        antitheses: vec!["y".into()],
    });
    let error = PrincipleSet::new(many.collect()).unwrap_err().to_string();
    assert_eq!(error, "64 principles are too many; use at most 63");
    let error = PrincipleSet::load("/no/such.toml".as_ref()).unwrap_err().to_string();
    assert_eq!(error, "/no/such.toml: No such file or directory (os error 2)");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.toml");
    std::fs::write(&path, "[[principle]]\nname = 3").unwrap();
    let error = PrincipleSet::load(&path).unwrap_err().to_string();
    assert_eq!(error, format!("{}, line 2: invalid type: integer `3`, expected a string", path.display()));
}

const PAIR: &str = r#"{
    "positive": "1. Be brief. \n2. Be whole.",
    "negative": "1. Ramble.\n2. Be whole.",
    "identifiers": {"positive": ["pos concise", "pos whole"], "negative": ["neg concise", "pos whole"]}
}"#;

#[test]
fn contrast_files_are_read_and_written() {
    let file = ContrastFile::from_json(PAIR).unwrap();
    assert_eq!(file.positive.render(), "1. Be brief.\n2. Be whole.");
    assert_eq!(
        (file.positive.id(), file.negative.id()),
        ("concise+whole".into(), "not-concise+whole".into())
    );
    assert_eq!(file.negative.articles()[0].stance, Stance::Antithesis);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.json");
    file.save(&path).unwrap();
    assert_eq!(ContrastFile::load(&path).unwrap(), file);
    let error = PrincipleSet::from_contrasts([&file]).unwrap_err().to_string();
    assert_eq!(error, "principle whole has no antitheses; write at least one");
}

#[test]
fn wrong_contrast_files_are_refused() {
    let cases = [
        (
            PAIR.replace("2. Be whole.\",\n    \"neg", "3. Be whole.\",\n    \"neg"),
            "positive: point 2 should begin with \"2. \"; it is \"3. Be whole.\"",
        ),
        (
            PAIR.replace("\"neg concise\", ", ""),
            "negative: 2 numbered points, but 1 identifiers; give one identifier per point",
        ),
        (
            PAIR.replace("neg concise", "not concise"),
            "identifiers.negative: \"not concise\" should be \"pos NAME\" or \"neg NAME\"",
        ),
        (
            PAIR.replace("pos whole\"],", "pos concise\"],"),
            "principle concise appears twice in one constitution; keep one side of it",
        ),
        (
            PAIR.replace("\"negative\": \"1.", "\"nope\": \"1."),
            "line 5: missing field `negative` at line 5 column 1",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(ContrastFile::from_json(&text).unwrap_err().to_string(), expected, "{text}");
    }
}

/// The data that lies beside the checkout, if it does.
fn shared() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let root = std::env::var_os("SAMI_SHARED").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    if !root.is_dir() {
        eprintln!("skipped: {} is not there; set SAMI_SHARED to the shared directory", root.display());
        return None;
    }
    Some(root)
}

#[test]
fn the_papers_own_files_are_read() {
    let Some(shared) = shared() else { return };
    for writer in ["constitutions_mistral", "constitutions_opus"] {
        let dir = shared.join("data/tldr").join(writer);
        let load = |number| ContrastFile::load(&dir.join(format!("{number}.json"))).unwrap();
        let files: Vec<_> = (0..6).map(load).collect();
        let ids: Vec<_> = files.iter().map(|file| file.negative.id()).collect();
        assert!(files.iter().all(|file| file.positive.id() == "comprehensive+concise"));
        // Three contrasts, each in two orders of the principles.
        for id in ["comprehensive+not-concise", "concise+not-comprehensive", "not-comprehensive+not-concise"]
        {
            assert_eq!(ids.iter().filter(|other| *other == id).count(), 2, "{writer} {id}");
        }
        for file in &files {
            assert_eq!(&ContrastFile::from_json(&file.to_json().unwrap()).unwrap(), file);
        }
        assert_eq!(ContrastFile::load_dir(&dir).unwrap(), files);
        // What is written says what the authors' file says, white space at the end of a line aside.
        for (number, file) in files.iter().enumerate() {
            let theirs =
                std::fs::read_to_string(dir.join(format!("{number}.json"))).unwrap().replace(" \\n", "\\n");
            let [theirs, ours] = [theirs, file.to_json().unwrap()]
                .map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap());
            assert_eq!(ours, theirs);
        }
        let set = PrincipleSet::from_contrasts(&files).unwrap();
        assert_eq!(set.principles().len(), 2);
    }
}

/// Files as another system writes them: with a byte order mark, and with `\r\n` at the end of lines.
#[test]
fn newlines_of_another_system_do_not_reach_prompts() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("\u{feff}{text}").replace('\n', "\r\n")).unwrap();
        path
    };
    let task = r#"name = "t"
[prompts]
sampling = """
{{ constitution }}

{{ query }}

A:"""
training = '''{{ constitution }}

{{ query }}
A:'''
[responses]
stop = ["""

Q:"""]
"#;
    let loaded = Task::load(&foreign("task.toml", task)).unwrap();
    assert_eq!(loaded.sampling_prompt("1. x", "q").unwrap(), "1. x\n\nq\n\nA:");
    assert_eq!(loaded.training_prompt("1. x", "q").unwrap(), "1. x\n\nq\nA:");
    assert_eq!(loaded.stop_strings(), ["\nQ:"]);

    let principles = "[[principle]]\nname = \"a\"\nstatements = [\"x\"]\nantitheses = [\"y\"]\n";
    assert_eq!(
        PrincipleSet::load(&foreign("p.toml", principles)).unwrap(),
        PrincipleSet::from_toml(principles).unwrap()
    );

    let seed = "Ask for {{ task }}:\n{% for one in principles %}\n- {{ one }}\n{% endfor %}\n";
    let asked = |template: SeedTemplate| {
        let builder = WriterBuilder {
            task: "t".into(),
            principles: vec!["a".into()],
            template: Some(template),
            ..WriterBuilder::default()
        };
        builder.check().unwrap().seed_prompt().to_owned()
    };
    let text = asked(SeedTemplate::load(&foreign("seed.txt", seed)).unwrap());
    assert_eq!(text, asked(SeedTemplate::from_text(seed).unwrap()));
    assert!(text.contains("\n- a") && !text.contains('\r'), "{text:?}");

    let pair = r#"{"positive": "1. x\r\n2. z", "negative": "1. y\r\n2. z",
        "identifiers": {"positive": ["pos a", "pos b"], "negative": ["neg a", "pos b"]}}"#;
    let contrast = ContrastFile::load(&foreign("0.json", pair)).unwrap();
    assert_eq!(contrast.positive.render(), "1. x\n2. z");

    let line = |query: &str| {
        let side = |stance: &str| format!(r#"[{{"principle":"a","stance":"{stance}","text":"{stance}"}}]"#);
        format!(r#"{{"query":"{query}","constitutions":[{},{}]}}"#, side("principle"), side("antithesis"))
    };
    let lines = format!("{}\n\n{}\n\n", line("q1"), line("q2"));
    assert_eq!(QueryConstitutions::load(&foreign("own.jsonl", &lines)).unwrap().len(), 2);
}
