//! Generates the worker's dispatch, from a call number to a call of the driver.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let specification =
        PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../driver-api/spec");
    println!("cargo::rerun-if-changed={}", specification.display());
    let out = Path::new(&std::env::var("OUT_DIR")?).join("dispatch.rs");
    driver_api_generator::write_dispatch(&specification, &out)?;
    Ok(())
}
