//! Generates the row table, the wire types and the driver's function table from `spec/`.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed=spec");
    let out = Path::new(&std::env::var("OUT_DIR")?).join("api.rs");
    driver_api_generator::write_api(&manifest.join("spec"), &out)?;
    Ok(())
}
