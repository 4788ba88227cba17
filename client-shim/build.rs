//! Generates the exports from `driver-api/spec`, and links the library as a driver's stand-in.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let specification =
        PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../driver-api/spec");
    println!("cargo::rerun-if-changed={}", specification.display());
    let out = Path::new(&std::env::var("OUT_DIR")?).join("exports.rs");
    driver_api_generator::write_client_exports(&specification, &out)?;
    // A preloaded library of this name satisfies `dlopen("libcuda.so.1")`; it must never be unloaded, since its threads and exit
    // handler stay; its own calls must reach its own functions, whatever else is preloaded.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    Ok(())
}
