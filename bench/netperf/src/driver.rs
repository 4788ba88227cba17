//! A driver library, loaded by path: the client library, the null driver or the software GPU, all through one table of functions.
//!
//! What: [`Gpu`] has a context, a module of empty kernels and what the measured loops need, each method one driver call.
//! Rule: nothing but the call stands between two looks at the clock.
//!
//! # Safety
//! The table's signatures are those of the rows. Out parameters are locals; host buffers are slices whose length is passed, or pinned
//! memory with its length; a launch gets one pointer for each of the kernel's parameters, all eight bytes.
#![expect(unsafe_code, reason = "loads a library and calls its functions")]

use std::ffi::{CString, c_void};
use std::fmt::Write as _;
use std::path::Path;

use driver_api::Driver;
use driver_api::abi::{CUcontext, CUfunction, CUmodule, CUstream};

use crate::Failure;

/// The numbers of parameters that there are kernels of.
pub const PARAMETERS: [usize; 3] = [1, 4, 16];

macro_rules! cuda {
    ($driver:expr, $name:ident($($argument:expr),* $(,)?)) => {
        match $driver.$name {
            // SAFETY: the module's `# Safety` section says why the arguments are what the row's function expects.
            Some(function) => unsafe { function($($argument),*) }
                .ok()
                .map_err(|error| format!("{}: {error}", stringify!($name))),
            None => Err(format!("the library has no {}", stringify!($name))),
        }
    };
}

/// Loads the library at `path`, for the rest of the process's life.
///
/// # Errors
/// The loader's.
pub fn load(path: &Path) -> Result<&'static Driver, Failure> {
    // SAFETY: a CUDA driver, by the caller's choice of path; its initialisers are trusted like any library's.
    let library = Box::leak(Box::new(unsafe { libloading::Library::new(path) }?));
    let find = |name: &str| {
        // SAFETY: only the symbol's address is taken; the table states its signature.
        let symbol = unsafe { library.get::<*const ()>(name) }.ok()?;
        Some(*symbol)
    };
    // SAFETY: `find` answers with the library's own functions, and the library is never unloaded.
    Ok(Box::leak(Box::new(unsafe { Driver::load(find) })))
}

/// `cuInit`.
///
/// # Errors
/// The driver's.
pub fn initialise(driver: &Driver) -> Result<(), Failure> {
    Ok(cuda!(driver, cuInit(0))?)
}

/// A device with a context and kernels.
pub struct Gpu {
    driver: &'static Driver,
    context: CUcontext,
    kernels: Vec<CUfunction>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gpu").finish_non_exhaustive()
    }
}

/// A stream of it.
#[derive(Debug, Clone, Copy)]
pub struct Stream(CUstream);

impl Gpu {
    /// The first device of a driver, its context current here.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(driver: &'static Driver) -> Result<Self, Failure> {
        initialise(driver)?;
        let mut context = CUcontext(0);
        cuda!(driver, cuDevicePrimaryCtxRetain(&mut context, 0))?;
        cuda!(driver, cuCtxSetCurrent(context))?;
        let image = CString::new(image())?;
        let mut module = CUmodule(0);
        cuda!(driver, cuModuleLoadData(&mut module, image.as_ptr().cast()))?;
        let mut kernels = Vec::new();
        for count in PARAMETERS {
            let mut kernel = CUfunction(0);
            let name = CString::new(kernel_name(count))?;
            cuda!(
                driver,
                cuModuleGetFunction(&mut kernel, module, name.as_ptr())
            )?;
            kernels.push(kernel);
        }
        Ok(Self {
            driver,
            context,
            kernels,
        })
    }

    /// Makes the context current on another thread.
    ///
    /// # Errors
    /// The driver's.
    pub fn enter(&self) -> Result<(), String> {
        cuda!(self.driver, cuCtxSetCurrent(self.context))
    }

    /// A call that has to be asked: how much memory is free.
    ///
    /// # Errors
    /// The driver's.
    pub fn ask(&self) -> Result<(), String> {
        let (mut free, mut total) = (0, 0);
        cuda!(self.driver, cuMemGetInfo_v2(&mut free, &mut total))
    }

    /// A stream of the caller's own.
    ///
    /// # Errors
    /// The driver's.
    pub fn stream(&self) -> Result<Stream, String> {
        let mut stream = CUstream(0);
        cuda!(self.driver, cuStreamCreate(&mut stream, 1))?;
        Ok(Stream(stream))
    }

    /// Destroys a stream.
    ///
    /// # Errors
    /// The driver's.
    pub fn destroy(&self, stream: Stream) -> Result<(), String> {
        cuda!(self.driver, cuStreamDestroy_v2(stream.0))
    }

    /// Waits for everything on a stream.
    ///
    /// # Errors
    /// The driver's.
    pub fn synchronise(&self, stream: Stream) -> Result<(), String> {
        cuda!(self.driver, cuStreamSynchronize(stream.0))
    }

    /// Launches the empty kernel of so many parameters as there are pointers.
    ///
    /// # Errors
    /// The driver's.
    pub fn launch(&self, stream: Stream, parameters: &mut [*mut c_void]) -> Result<(), String> {
        let place = PARAMETERS
            .iter()
            .position(|count| *count == parameters.len());
        let kernel = place.map_or(CUfunction(0), |place| self.kernels[place]);
        cuda!(
            self.driver,
            cuLaunchKernel(
                kernel,
                1,
                1,
                1,
                32,
                1,
                1,
                0,
                stream.0,
                parameters.as_mut_ptr(),
                std::ptr::null_mut()
            )
        )
    }

    /// Allocates device memory; its address.
    ///
    /// # Errors
    /// The driver's.
    pub fn allocate(&self, bytes: usize) -> Result<u64, String> {
        let mut address = 0;
        cuda!(self.driver, cuMemAlloc_v2(&mut address, bytes))?;
        Ok(address)
    }

    /// Frees device memory.
    ///
    /// # Errors
    /// The driver's.
    pub fn free(&self, address: u64) -> Result<(), String> {
        cuda!(self.driver, cuMemFree_v2(address))
    }

    /// Copies to the device.
    ///
    /// # Errors
    /// The driver's.
    pub fn copy_to(&self, device: u64, bytes: &[u8]) -> Result<(), String> {
        cuda!(
            self.driver,
            cuMemcpyHtoD_v2(device, bytes.as_ptr().cast(), bytes.len())
        )
    }

    /// Copies from the device.
    ///
    /// # Errors
    /// The driver's.
    pub fn copy_from(&self, device: u64, bytes: &mut [u8]) -> Result<(), String> {
        cuda!(
            self.driver,
            cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), device, bytes.len())
        )
    }

    /// Pinned memory, which stays until the process ends.
    ///
    /// # Errors
    /// The driver's.
    pub fn pinned(&self, bytes: usize) -> Result<&'static mut [u8], String> {
        let mut address = std::ptr::null_mut();
        cuda!(self.driver, cuMemHostAlloc(&mut address, bytes, 0))?;
        // SAFETY: the driver's allocation of this length, zeroed or written below before anybody reads it, and never freed.
        unsafe { address.cast::<u8>().write_bytes(1, bytes) };
        // SAFETY: as above; nobody else knows of it.
        Ok(unsafe { std::slice::from_raw_parts_mut(address.cast(), bytes) })
    }
}

fn kernel_name(parameters: usize) -> String {
    format!("null_{parameters}")
}

/// PTX of the empty kernels.
fn image() -> String {
    let mut text = ".version 7.0\n.target sm_75\n.address_size 64\n".to_owned();
    for count in PARAMETERS {
        let name = kernel_name(count);
        let parameters: Vec<String> = (0..count)
            .map(|index| format!(".param .u64 {name}_param_{index}"))
            .collect();
        let list = parameters.join(", ");
        // Writing to a string does not fail.
        let _ = writeln!(text, ".visible .entry {name}({list}) {{ ret; }}");
    }
    text
}
