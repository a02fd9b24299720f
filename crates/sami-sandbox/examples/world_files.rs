//! Writes the files of `data/` that the world makes.
//!
//! ```console
//! $ cargo run -p sami-sandbox --example world_files
//! ```
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    for (name, content) in sami_sandbox::made_files()? {
        std::fs::write(data.join(name), &content)?;
        println!("{name}: {} bytes", content.len());
    }
    Ok(())
}
