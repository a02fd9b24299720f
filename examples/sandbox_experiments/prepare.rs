//! What some recipes need and the repository does not hold.

use std::path::Path;
use std::process::{Command, Stdio};

use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha12Rng;
use sami::constitution::{ConstitutionSpace, QueryConstitutions};
use sami::data::{OnBadLine, read_queries};
use sami::driver::recipe::Recipe;
use sami::sandbox::{Quality, WordingSet, principles};

use crate::support::Outcome;

/// Makes what the recipe names and is not there yet.
pub(crate) fn inputs(name: &str, recipe: &Recipe) -> Outcome<()> {
    if let Some(heeding) = name.strip_prefix("wiring-") {
        rewired(&recipe.model.base, heeding)?;
    }
    if let Some(file) = &recipe.constitutions.per_query {
        varied(file, recipe)?;
    }
    Ok(())
}

/// The shipped model, trained on in a world whose authors heed more or less often.
fn rewired(base: &Path, heeding: &str) -> Outcome<()> {
    if base.exists() {
        return Ok(());
    }
    println!("a base whose authors heed in {heeding} of 100 documents comes first");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .current_dir(root)
        .args(["run", "--quiet", "--release", "--example", "pretrain_sandbox", "--", "--phases", "4"])
        .args(["--length", "0.25", "--heeding", &format!("0.{heeding}"), "--from"])
        .arg(root.join("crates/sami-sandbox/model"))
        .arg("--out")
        .arg(base)
        .stdout(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("pretrain_sandbox: {status}").into()) }
}

/// For every query two constitutions of two principles, drawn from six. Curious and personal are never among them.
fn varied(file: &Path, recipe: &Recipe) -> Outcome<()> {
    use Quality::{Courteous, Formal, Harmless, Helpful, Hopeful, Orderly};
    if file.exists() {
        return Ok(());
    }
    let mut rng = ChaCha12Rng::seed_from_u64(0);
    let mut own = QueryConstitutions::default();
    for query in read_queries(&recipe.data.files, recipe.data.shape()?, OnBadLine::Stop)?.queries {
        let two: Vec<_> =
            [Helpful, Harmless, Courteous, Formal, Orderly, Hopeful].sample(&mut rng, 2).copied().collect();
        let space = ConstitutionSpace::new(principles(&two, WordingSet::Learned)?);
        let constitutions = space.sample_distinct(2, &mut rng)?;
        own.insert(query.id, constitutions.iter().map(|one| one.shuffled(&mut rng)).collect())?;
    }
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    Ok(own.save(file)?)
}
