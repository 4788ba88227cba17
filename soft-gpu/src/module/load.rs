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

use crate::linker::parse_completed;
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

/// The bytes of a file.
pub(crate) fn read(path: &str) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::File {
        path: path.to_owned(),
        source,
    })
}

/// The PTX of a file.
pub(super) fn from_file(path: &str) -> Result<Arc<ptx::Module>, LoadError> {
    from_image(&Image::parse(&read(path)?)?)
}

fn from_image(image: &Image<'_>) -> Result<Arc<ptx::Module>, LoadError> {
    best(image, |text, cubin| {
        let mut module = parse_completed(text)?;
        // What the machine code was compiled for, its text does not say.
        for (kernel, most) in cubin.map_or(Ok(Vec::new()), elf::register_limits)? {
            module.limit_registers(Some(&kernel), most);
        }
        Ok(Arc::new(module))
    })
}

/// The PTX of bytes that are to be linked.
pub(crate) fn text_of(bytes: &[u8]) -> Result<String, LoadError> {
    best(&Image::parse(bytes)?, |text, _| {
        ptx::parse(text)?;
        Ok(text.to_owned())
    })
}

/// What `make` makes of the best PTX of an image of which it can; and of the cubin that it is from, if it is from one.
fn best<T>(
    image: &Image<'_>,
    make: impl Fn(&str, Option<&[u8]>) -> Result<T, LoadError>,
) -> Result<T, LoadError> {
    let make = |text: &[u8], cubin: Option<&[u8]>| make(&String::from_utf8_lossy(text), cubin);
    let made = match image {
        Image::Ptx(text) => Some(make(text, None)?),
        Image::Elf(bytes) => elf::embedded_ptx(bytes)?
            .map(|text| make(&text, Some(bytes)))
            .transpose()?,
        Image::Fatbin(fatbin) => best_of_fatbin(fatbin, make)?,
    };
    made.ok_or_else(|| no_ptx(image))
}

fn no_ptx(image: &Image<'_>) -> LoadError {
    LoadError::NoPtx {
        what: "the image".to_owned(),
        found: image::describe(image),
    }
}

/// What `make` makes of a fatbin's PTX, the best first: of the newest architecture that is not newer than this device; else the oldest of the
/// newer ones, which may still use nothing that is not known here; else what a cubin has embedded. What comes behind is not unpacked.
fn best_of_fatbin<T>(
    fatbin: &Fatbin<'_>,
    make: impl Fn(&[u8], Option<&[u8]>) -> Result<T, LoadError>,
) -> Result<Option<T>, LoadError> {
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
    let made = |entry: &Entry<'_>| -> Result<Option<T>, LoadError> {
        match entry.kind {
            Kind::Ptx => make(&entry.plain()?, None).map(Some),
            Kind::Elf => {
                let cubin = entry.plain()?;
                let text = elf::embedded_ptx(&cubin)?;
                text.map(|text| make(&text, Some(&cubin))).transpose()
            }
            Kind::LinkTimeIr | Kind::Other(_) => Ok(None),
        }
    };
    let mut failure = None;
    for entry in &entries {
        match made(entry) {
            Ok(Some(made)) => return Ok(Some(made)),
            Ok(None) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(None), Err)
}

fn entries_of<'a>(container: &Container<'a>) -> Result<Vec<Entry<'a>>, LoadError> {
    Ok(container.entries().collect::<Result<_, _>>()?)
}
