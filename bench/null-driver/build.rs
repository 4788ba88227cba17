//! Generates the exported functions from the table, and makes the library look like the driver to the linker.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let specification = manifest.join("../../driver-api/spec");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed={}", specification.display());
    let out = Path::new(&std::env::var("OUT_DIR")?).join("exports.rs");
    driver_api_generator::write_driver_exports(&specification, &manifest.join("src"), &out)?;
    for argument in ["-soname,libcuda.so.1", "-z,nodelete", "-Bsymbolic"] {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{argument}");
    }
    Ok(())
}
