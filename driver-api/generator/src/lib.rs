//! Reads the specification of the CUDA driver API (`driver-api/spec`) and writes the code that follows from it.
//!
//! The specification is a set of Rust files with one `extern "C"` block each, one row per function; this crate parses them with
//! `syn` and is called from the build scripts of the crates that need the result:
//!
//! | called by | writes |
//! |---|---|
//! | `driver-api` | [`write_api`]: row table, call numbers, request and reply types, the table of driver functions |
//! | `client-shim` | [`write_client_exports`]: the exported functions of the shim |
//! | `gpu-server` | [`write_dispatch`]: from a call number to a call of the driver |
//! | `soft-gpu` | [`write_driver_exports`]: the exported functions of a driver |
//!
//! Rules: it never branches on the name of a function; what a row cannot say gets a word in the vocabulary
//! ([`model::Row`]), or the row says `custom`. A specification that does not parse is a build error that names file and row.

pub mod model;

mod api;
mod coverage;
mod dispatch;
mod exports;
mod implemented;
mod parameter;
mod parse;
mod wire;

use std::path::Path;

use proc_macro2::TokenStream;

pub use parse::{SpecificationError, read_specification};

/// Writes what the `driver-api` crate includes.
///
/// # Errors
/// The specification does not parse, or the file cannot be written.
pub fn write_api(specification: &Path, out: &Path) -> Result<(), SpecificationError> {
    let specification = read_specification(specification)?;
    let mut tokens = api::rows(&specification);
    tokens.extend(api::driver_table(&specification));
    tokens.extend(wire::types(&specification));
    write(out, tokens)
}

/// Writes the exports of the client shim: local and custom rows call `crate::<area>::<name>`, the others are encoded here.
///
/// # Errors
/// As [`write_api`].
pub fn write_client_exports(specification: &Path, out: &Path) -> Result<(), SpecificationError> {
    let specification = read_specification(specification)?;
    write(out, exports::client(&specification))
}

/// Writes the exports of a driver whose sources lie in `sources`: a row is served if some file there, of the row's area, has a function
/// of its name; the others answer that they are not supported.
///
/// # Errors
/// As [`write_api`]; also if the sources do not parse, or have a function `cu…` without a row.
pub fn write_driver_exports(
    specification: &Path,
    sources: &Path,
    out: &Path,
) -> Result<(), SpecificationError> {
    let specification = read_specification(specification)?;
    let served = implemented::find(sources, &specification)?;
    write(out, exports::driver(&specification, &served))
}

/// Writes the worker's dispatch: rows marked `custom = worker` call `crate::worker::<area>::<name>`, the others the driver.
///
/// # Errors
/// As [`write_api`].
pub fn write_dispatch(specification: &Path, out: &Path) -> Result<(), SpecificationError> {
    let specification = read_specification(specification)?;
    write(out, dispatch::dispatch(&specification))
}

/// The text of `wire.lock`: number, name, disposition and shape of everything that travels.
///
/// # Errors
/// As [`write_api`].
pub fn wire_lock(specification: &Path) -> Result<String, SpecificationError> {
    Ok(wire::lock(&read_specification(specification)?))
}

/// The text of `docs/COVERAGE.md`.
///
/// # Errors
/// As [`write_api`].
pub fn coverage(specification: &Path) -> Result<String, SpecificationError> {
    Ok(coverage::document(&read_specification(specification)?))
}

fn write(out: &Path, tokens: TokenStream) -> Result<(), SpecificationError> {
    let file = syn::parse2(tokens).map_err(|source| SpecificationError::Generated {
        file: out.to_owned(),
        message: source.to_string(),
    })?;
    std::fs::write(out, prettyplease::unparse(&file)).map_err(|source| SpecificationError::File {
        file: out.to_owned(),
        source,
    })
}
