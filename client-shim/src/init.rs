//! Initialisation, versions, error texts, and the ways a program finds functions.
//!
//! # Safety
//! The functions named like the driver's write through pointers that they have checked for null and that are writable by the API's
//! contract; names are C strings by the same contract.
#![expect(unsafe_code, reason = "out parameters and strings of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};

use driver_api::abi::{
    CUcontext, CUdriverProcAddressQueryResult, CUmodule, CUresult, CUstream, CUuuid,
};
use driver_api::private_tables::{self, DeviceIdentity, TableHost};
use driver_api::proc_address::{self, Found};

use crate::context;
use crate::entry::{code, guarded};
use crate::exports::EXPORTS;
use crate::log;
use crate::memory::out;
use crate::module;
use crate::session;
use crate::stream;

/// What is answered as the driver's version while no server can be reached, so that a program gets as far as `cuInit`, which tells it.
const VERSION_WITHOUT_SERVER: i32 = 13_000;

pub(crate) unsafe fn cuInit(flags: c_uint) -> CUresult {
    if flags != 0 {
        return CUresult::INVALID_VALUE;
    }
    code(session::initialise())
}

pub(crate) unsafe fn cuDriverGetVersion(driver_version: *mut c_int) -> CUresult {
    code((|| {
        let place = out(driver_version)?;
        let version = session::connected()?.driver_version;
        // SAFETY: checked by `out`.
        unsafe { place.write(version) };
        Ok(())
    })())
}

/// The text of a result, if it is known; null and an error if not.
fn write_text(place: *mut *const c_char, text: Option<&'static str>) -> Result<(), CUresult> {
    let place = out(place)?;
    let pointer = text.map_or(core::ptr::null(), |text| text.as_ptr().cast());
    // SAFETY: checked by `out`; the texts are static and end in NUL.
    unsafe { place.write(pointer) };
    if text.is_some() {
        Ok(())
    } else {
        Err(CUresult::INVALID_VALUE)
    }
}

pub(crate) unsafe fn cuGetErrorName(error: CUresult, str: *mut *const c_char) -> CUresult {
    code(write_text(str, error.name_with_nul()))
}

pub(crate) unsafe fn cuGetErrorString(error: CUresult, str: *mut *const c_char) -> CUresult {
    code(write_text(str, error.text_with_nul()))
}

/// Looks a function up; the search of the empty name is how clients probe, and needs no server.
fn find(symbol: *const c_char, version: c_int, flags: u64) -> Result<Found, CUresult> {
    if symbol.is_null() || flags & !proc_address::ALL_FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, and a C string by the API's contract.
    let Ok(name) = unsafe { CStr::from_ptr(symbol) }.to_str() else {
        return Ok(Found::UnknownName);
    };
    if name.is_empty() {
        return Ok(Found::UnknownName);
    }
    let driver =
        session::connected().map_or(VERSION_WITHOUT_SERVER, |session| session.driver_version);
    let per_thread = flags & proc_address::PER_THREAD_DEFAULT_STREAM != 0;
    let unsigned = |number: c_int| u32::try_from(number).unwrap_or(0);
    let found = proc_address::find(name, unsigned(version), per_thread, unsigned(driver));
    log::debug!("cuGetProcAddress({name}, {version}, {flags}) -> {found:?}");
    Ok(found)
}

fn address(row: usize, per_thread: bool) -> *mut c_void {
    EXPORTS[row].address(per_thread).cast_mut().cast()
}

pub(crate) unsafe fn cuGetProcAddress(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    cuda_version: c_int,
    flags: u64,
) -> CUresult {
    code((|| {
        let place = out(pfn)?;
        match find(symbol, cuda_version, flags)? {
            Found::Function { row, per_thread } => {
                // SAFETY: checked by `out`.
                unsafe { place.write(address(row, per_thread)) };
                Ok(())
            }
            Found::UnknownName | Found::VersionTooLow => Err(CUresult::NOT_FOUND),
        }
    })())
}

pub(crate) unsafe fn cuGetProcAddress_v2(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    cuda_version: c_int,
    flags: u64,
    symbol_status: *mut CUdriverProcAddressQueryResult,
) -> CUresult {
    code((|| {
        let place = out(pfn)?;
        let (pointer, status) = match find(symbol, cuda_version, flags)? {
            Found::Function { row, per_thread } => (address(row, per_thread), 0),
            Found::UnknownName => (core::ptr::null_mut(), 1),
            Found::VersionTooLow => (core::ptr::null_mut(), 2),
        };
        // SAFETY: checked by `out`, or for null here.
        unsafe {
            place.write(pointer);
            if !symbol_status.is_null() {
                symbol_status.write(status);
            }
        }
        Ok(())
    })())
}

pub(crate) unsafe fn cuGetExportTable(
    export_table: *mut *const c_void,
    export_table_id: *const CUuuid,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { private_tables::get_export_table(export_table, export_table_id) }
}

/// Says that the private tables are ours; when the library is loaded.
pub(crate) fn offer_private_tables() {
    private_tables::register(&Shim);
}

/// What the private tables need of us.
struct Shim;

impl TableHost for Shim {
    fn driver_version(&self) -> u32 {
        let version = guarded(session::connected)
            .map_or(VERSION_WITHOUT_SERVER, |session| session.driver_version);
        u32::try_from(version).unwrap_or(0)
    }

    fn devices(&self) -> Vec<DeviceIdentity> {
        let identities = |session: &session::Session| {
            session
                .devices
                .iter()
                .map(|device| device.identity())
                .collect()
        };
        guarded(session::connected)
            .map(identities)
            .unwrap_or_default()
    }

    fn current_context(&self) -> usize {
        context::current_handle().0
    }

    fn primary_context(&self, device: i32) -> Result<usize, CUresult> {
        guarded(|| Ok(context::primary_of(session::get()?, device)?.handle().0))
    }

    fn context_id(&self, context: usize) -> Result<u64, CUresult> {
        guarded(|| context::id_of(CUcontext(context)))
    }

    fn stream_id(&self, _context: usize, stream: usize) -> Result<u64, CUresult> {
        guarded(|| stream::id_of(CUstream(stream)))
    }

    fn load_fat_binary(&self, wrapper: usize) -> Result<usize, CUresult> {
        let image = core::ptr::with_exposed_provenance(wrapper);
        // SAFETY: the runtime passes the wrapper of a fatbin of its program.
        guarded(|| unsafe { module::load_image(image) }).map(|module| module.0)
    }

    fn module_functions(&self, module: usize) -> Result<Vec<usize>, CUresult> {
        let functions = guarded(|| module::functions_of(CUmodule(module)))?;
        Ok(functions.into_iter().map(|function| function.0).collect())
    }

    fn log(&self, line: &str) {
        log::line(log::Level::Warn, format_args!("{line}"));
    }
}
