//! Models and data from a hub, with a server of our own in its place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers outside #[test] functions")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Output;
use std::sync::{Arc, Mutex};

use common::{World, text};
use serde_json::json;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What is asked for, and what is answered; what was asked is kept.
struct Hub {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Hub {
    /// Serves `GET` of some paths; what belongs to `private` to the holder of a token alone.
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (asked, files) = (Arc::default(), Arc::default());
        let hub = Self { address, asked: Arc::clone(&asked), files: Arc::clone(&files) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let Some(first) = lines.next() else { continue };
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                let headers: Vec<_> =
                    lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
                let may = !path.contains("private/")
                    || headers.contains(&"authorization: bearer secret".to_owned());
                asked.lock().unwrap().push(path.clone());
                let (status, body) = match files.lock().unwrap().get(&path).cloned() {
                    _ if !may => ("401 Unauthorized", Vec::new()),
                    Some(body) => ("200 OK", body),
                    None => ("404 Not Found", Vec::new()),
                };
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        hub
    }

    /// Serves a repository of files.
    fn publish(&self, kind: &str, name: &str, files: &[(&str, Vec<u8>)]) {
        let siblings: Vec<_> = files.iter().map(|(file, _)| json!({"rfilename": file})).collect();
        let listing = json!({"sha": COMMIT, "siblings": siblings}).to_string().into_bytes();
        let mut served = self.files.lock().unwrap();
        for revision in ["main", COMMIT] {
            served.insert(format!("/api/{kind}/{name}/revision/{revision}"), listing.clone());
        }
        let before = if kind == "models" { "" } else { "datasets/" };
        for (file, bytes) in files {
            served.insert(format!("/{before}{name}/resolve/{COMMIT}/{file}"), bytes.clone());
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn sami(&self, world: &World, arguments: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = world.command(arguments);
        command.env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE").env_remove("HF_HOME");
        command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        command.env("HF_ENDPOINT", &self.address).env("HF_HUB_CACHE", world.path("cache"));
        command.envs(variables.iter().copied()).output().unwrap()
    }
}

fn model(world: &World) -> Vec<(&'static str, Vec<u8>)> {
    let read = |name: &str| std::fs::read(world.path("model").join(name)).unwrap();
    let mut files: Vec<_> =
        ["config.json", "tokenizer.json", "model.safetensors"].map(|name| (name, read(name))).into();
    // Other formats of the same weights, which nobody here reads.
    let others = ["pytorch_model.bin", "original/params.json", "README.md"];
    files.extend(others.map(|name| (name, b"x".to_vec())));
    files
}

#[test]
fn a_model_comes_once_and_stays() {
    let (world, hub) = (World::new(), Hub::new());
    hub.publish("models", "org/tiny", &model(&world));
    let first = hub.sami(&world, "inspect org/tiny", &[]);
    let (out, err) = (text(&first.stdout), text(&first.stderr));
    assert!(first.status.success() && out.to_lowercase().contains("mistral"), "{out}{err}");
    assert!(err.contains("fetching model.safetensors of org/tiny"), "{err}");
    let asked = hub.asked();
    assert_eq!(asked.len(), 4, "{asked:?}");
    // Where Python keeps it.
    let snapshot = world.path("cache/models--org--tiny/snapshots").join(COMMIT);
    assert!(snapshot.join("model.safetensors").is_file() && !snapshot.join("pytorch_model.bin").exists());
    assert_eq!(world.read("cache/models--org--tiny/refs/main"), COMMIT);

    // A branch is looked up again, and nothing is fetched twice; a commit is not even looked up.
    assert!(hub.sami(&world, "inspect hub:org/tiny", &[]).status.success());
    assert_eq!(hub.asked(), ["/api/models/org/tiny/revision/main"]);
    assert!(hub.sami(&world, &format!("inspect org/tiny@{COMMIT}"), &[]).status.success());
    assert!(hub.sami(&world, "inspect org/tiny", &[("HF_HUB_OFFLINE", "1")]).status.success());
    assert!(hub.asked().is_empty());

    // Without a network what is there is used, and said to be.
    let output = hub.sami(&world, "inspect org/tiny", &[("HF_ENDPOINT", "http://127.0.0.1:9")]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("using what the cache holds"), "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_had_is_said() {
    let (world, hub) = (World::new(), Hub::new());
    hub.publish("models", "private/tiny", &model(&world));
    let pickled = [("config.json", b"{}".to_vec()), ("pytorch_model.bin", b"x".to_vec())];
    hub.publish("models", "org/pickled", &pickled);
    let gone = ("HF_ENDPOINT", "http://127.0.0.1:9");
    for (arguments, variables, code, expected) in [
        ("inspect org/absent", vec![], 2, "org/absent: the hub says 404 to http://"),
        ("inspect private/tiny", vec![], 2, "says 401"),
        ("inspect private/tiny", vec![], 2, "if it is not public, set HF_TOKEN"),
        ("inspect private/tiny", vec![("HF_TOKEN", "mistaken")], 2, "HF_TOKEN does not open it"),
        ("inspect org/tiny@", vec![], 2, "org/tiny@"),
        ("inspect hub:tiny", vec![], 2, "hub:tiny: a name on a hub has the form org/name"),
        ("inspect org/pickled", vec![], 2, "org/pickled at main has no weights in safetensors format"),
        ("inspect org/tiny", vec![("HF_HUB_OFFLINE", "1")], 2, "org/tiny is not in the cache ("),
        (
            "inspect org/tiny",
            vec![gone],
            1,
            "cannot reach http://127.0.0.1:9/api/models/org/tiny/revision/main",
        ),
        ("inspect org/tiny", vec![gone], 1, "without a network, fetch org/tiny elsewhere"),
    ] {
        let output = hub.sami(&world, arguments, &variables);
        let message = text(&output.stderr);
        let as_said = output.status.code() == Some(code) && message.contains(expected);
        assert!(as_said, "{arguments}: {:?} {message}", output.status);
        assert!(!message.contains("panicked") && !message.contains("mistaken"), "{message}");
    }
    assert!(hub.sami(&world, "inspect private/tiny", &[("HF_TOKEN", "secret")]).status.success());
}

#[test]
fn a_run_from_the_hub_keeps_the_commit() {
    let (world, hub) = (World::new(), Hub::new());
    hub.publish("models", "org/tiny", &model(&world));
    let queries = std::fs::read(world.path("queries.jsonl")).unwrap();
    hub.publish("datasets", "org/talk", &[("a/queries.jsonl", queries), ("b.jsonl", b"x".to_vec())]);
    world.recipe();
    let recipe = world.read("recipe.toml").replace("\"model\"", "\"hub:org/tiny\"");
    world.write("hub.toml", &recipe.replace("\"queries.jsonl\"", "\"hub:org/talk/a/queries.jsonl\""));
    let run = "run hub.toml --out run --set training.iterations=1 --set evaluation.queries=0 --no-guards";
    let output = hub.sami(&world, run, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let kept = world.read("run/recipe.toml");
    assert!(kept.contains(&format!("models--org--tiny/snapshots/{COMMIT}")), "{kept}");
    assert!(kept.contains(&format!("datasets--org--talk/snapshots/{COMMIT}/a/queries.jsonl")), "{kept}");
    assert!(hub.sami(&world, run, &[("HF_HUB_OFFLINE", "1")]).status.success());

    // The branch moves on: it is refused to go on with other weights.
    let moved = "f".repeat(40);
    world.write("cache/models--org--tiny/refs/main", &moved);
    let snapshots = world.path("cache/models--org--tiny/snapshots");
    std::fs::rename(snapshots.join(COMMIT), snapshots.join(&moved)).unwrap();
    let output = hub.sami(&world, run, &[("HF_HUB_OFFLINE", "1")]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("was made by another recipe: model.base differ"), "{message}");
}
