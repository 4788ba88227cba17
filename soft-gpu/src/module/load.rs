//! From an image to parsed PTX.
//!
//! # Safety
//!
//! [`from_pointer`] hands a caller's pointer to [`driver_api::image::extent`], under the same contract.

#![expect(unsafe_code, reason = "images are bare pointers")]

use core::ffi::c_void;
use std::sync::Arc;

use driver_api::abi::CUresult;
use driver_api::image::fatbin::{Entry, Kind};
use driver_api::image::{self, Container, Fatbin, Image, ImageError, elf};

use crate::ptx;
use crate::state::driver;

/// Why an image cannot be used here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("cannot read {path}: {source}")]
    File {
        path: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(
        "{what} holds {found} but no PTX, and the software GPU executes PTX only: compile with \
         `-gencode arch=compute_75,code=compute_75` (nvcc), or ask the library for PTX instead of a cubin"
    )]
    NoPtx { what: String, found: String },
    #[error(transparent)]
    Ptx(#[from] ptx::PtxError),
    #[error("`{0}` is defined twice")]
    Twice(String),
    #[error("the driver is not initialised")]
    NotInitialised,
}

impl LoadError {
    /// What the driver answers.
    pub(super) fn code(&self) -> CUresult {
        match self {
            Self::File { .. } => CUresult::FILE_NOT_FOUND,
            Self::Image(ImageError::Null) => CUresult::INVALID_VALUE,
            Self::Image(_) => CUresult::INVALID_IMAGE,
            Self::NoPtx { .. } => CUresult::NO_BINARY_FOR_GPU,
            Self::Ptx(_) => CUresult::INVALID_PTX,
            Self::Twice(_) => CUresult::INVALID_SOURCE,
            Self::NotInitialised => CUresult::NOT_INITIALIZED,
        }
    }
}

/// The PTX of the image at a pointer.
///
/// # Safety
///
/// `image` is null or the start of a complete image.
pub(super) unsafe fn from_pointer(image: *const c_void) -> Result<Arc<ptx::Module>, LoadError> {
    // SAFETY: by contract; what is borrowed is only used in this function.
    let found = unsafe { image::extent(image) }?;
    from_image(&found).map_err(|error| match (error, image::origin(image.addr())) {
        (LoadError::NoPtx { found, .. }, Some(file)) => LoadError::NoPtx {
            what: format!("a module of {}", file.display()),
            found,
        },
        (error, _) => error,
    })
}

/// The PTX of a file.
pub(super) fn from_file(path: &str) -> Result<Arc<ptx::Module>, LoadError> {
    let bytes = std::fs::read(path).map_err(|source| LoadError::File {
        path: path.to_owned(),
        source,
    })?;
    from_image(&Image::parse(&bytes)?)
}

fn from_image(image: &Image<'_>) -> Result<Arc<ptx::Module>, LoadError> {
    match image {
        Image::Ptx(text) => parse(text),
        Image::Elf(bytes) => match elf::embedded_ptx(bytes)? {
            Some(text) => parse(&text),
            None => Err(no_ptx(image)),
        },
        Image::Fatbin(fatbin) => from_fatbin(fatbin)?.ok_or_else(|| no_ptx(image)),
    }
}

/// The PTX of bytes that are to be linked.
pub(crate) fn text_of(bytes: &[u8]) -> Result<String, LoadError> {
    let image = Image::parse(bytes)?;
    let text = match &image {
        Image::Ptx(text) => Some(text.to_vec()),
        Image::Elf(bytes) => elf::embedded_ptx(bytes)?,
        Image::Fatbin(fatbin) => match texts(fatbin)?.into_iter().next() {
            Some(text) => Some(text?),
            None => None,
        },
    };
    let text = text.ok_or_else(|| no_ptx(&image))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn no_ptx(image: &Image<'_>) -> LoadError {
    LoadError::NoPtx {
        what: "the image".to_owned(),
        found: image::describe(image),
    }
}

fn parse(text: &[u8]) -> Result<Arc<ptx::Module>, LoadError> {
    Ok(Arc::new(ptx::parse(&String::from_utf8_lossy(text))?))
}

/// The best PTX of a fatbin that can be parsed.
fn from_fatbin(fatbin: &Fatbin<'_>) -> Result<Option<Arc<ptx::Module>>, LoadError> {
    let mut failure = None;
    for text in texts(fatbin)? {
        match parse(&text?) {
            Ok(module) => return Ok(Some(module)),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(None), Err)
}

/// All PTX of a fatbin, the best first: of the newest architecture that is not newer than this device; else the oldest of the newer ones, which
/// may still use nothing that is not known here; else what a cubin has embedded.
fn texts(fatbin: &Fatbin<'_>) -> Result<Vec<Result<Vec<u8>, LoadError>>, LoadError> {
    let device = driver()
        .map_err(|_| LoadError::NotInitialised)?
        .config
        .capability
        .sm();
    let mut entries = Vec::new();
    for container in std::iter::once(&fatbin.container).chain(&fatbin.prelinked) {
        entries.extend(entries_of(container)?);
    }
    entries.sort_by_key(|entry| {
        let newer = entry.sm > device;
        (
            entry.kind != Kind::Ptx,
            newer,
            if newer { entry.sm } else { device - entry.sm },
        )
    });
    let text = |entry: &Entry<'_>| -> Result<Option<Vec<u8>>, LoadError> {
        Ok(match entry.kind {
            Kind::Ptx => Some(entry.plain()?.into_owned()),
            Kind::Elf => elf::embedded_ptx(&entry.plain()?)?,
            Kind::LinkTimeIr | Kind::Other(_) => None,
        })
    };
    Ok(entries
        .iter()
        .filter_map(|entry| text(entry).transpose())
        .collect())
}

fn entries_of<'a>(container: &Container<'a>) -> Result<Vec<Entry<'a>>, LoadError> {
    Ok(container.entries().collect::<Result<_, _>>()?)
}
