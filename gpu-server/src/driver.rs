//! A CUDA driver, loaded by its absolute path: NVIDIA's or the software GPU, both through one table.
//!
//! *Rules:* a function that the driver lacks is `None` in the table and becomes `CUDA_ERROR_NOT_SUPPORTED`; the library is never
//! unloaded, so the table is good for the life of the process.
//!
//! # Safety
//! The table's signatures are those of the rows; the library at the path is a CUDA driver, which is the operator's statement.
#![expect(
    unsafe_code,
    reason = "loads a library and takes its functions' addresses"
)]

use std::path::{Path, PathBuf};

use driver_api::Driver;

/// Why there is no driver.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    /// A path that the loader would search for.
    #[error("the driver's path {0} is not absolute")]
    NotAbsolute(PathBuf),
    /// The loader's refusal.
    #[error("cannot load the driver {path}: {source}")]
    Load {
        /// The library.
        path: PathBuf,
        /// The loader's words.
        source: libloading::Error,
    },
}

/// Loads the driver at `path` for the rest of the process's life.
///
/// # Errors
/// The path is not absolute, or the loader refuses the library.
pub(crate) fn load(path: &Path) -> Result<&'static Driver, DriverError> {
    if !path.is_absolute() {
        return Err(DriverError::NotAbsolute(path.to_owned()));
    }
    // SAFETY: the operator names a CUDA driver; its initialisers are trusted like any library's.
    let library =
        unsafe { libloading::Library::new(path) }.map_err(|source| DriverError::Load {
            path: path.to_owned(),
            source,
        })?;
    let library: &'static libloading::Library = Box::leak(Box::new(library));
    let find = |name: &str| {
        // SAFETY: only the symbol's address is taken; the table states its signature.
        let symbol = unsafe { library.get::<*const ()>(name) }.ok()?;
        Some(*symbol)
    };
    // SAFETY: `find` answers with the library's own functions, and the library is never unloaded.
    Ok(Box::leak(Box::new(unsafe { Driver::load(find) })))
}

/// Calls one function of a driver's table: `cuda!(driver, cuInit(0))` is `Result<(), CUresult>`.
///
/// It contains the `unsafe` block, so only rooms that allow unsafe code and say in their `# Safety` section why their arguments are
/// right can use it.
macro_rules! cuda {
    ($driver:expr, $name:ident($($argument:expr),* $(,)?)) => {
        match $driver.$name {
            // SAFETY: the `# Safety` section of the module says why these arguments are what the row's function expects.
            Some(function) => unsafe { function($($argument),*) }.ok(),
            None => Err(driver_api::result::CUresult::NOT_SUPPORTED),
        }
    };
}
pub(crate) use cuda;
