//! The driver's beginning: initialisation, versions, errors by name, and how clients find its functions.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};

use driver_api::abi::{
    CUcontext, CUdriverProcAddressQueryResult, CUmodule, CUresult, CUstream, CUuuid,
};
use driver_api::private_tables::{self, DeviceIdentity, TableHost};
use driver_api::proc_address::{self, Found};

use crate::checkpoint::DOOR;
use crate::config::driver_version as version_served;
use crate::context::{self, current_handle};
use crate::entry::{answer, answer_if_asked, done};
use crate::exports::EXPORTS;
use crate::state::{driver, initialise};
use crate::{device, log, module, stream};

pub(crate) unsafe fn cuInit(flags: c_uint) -> CUresult {
    if flags != 0 {
        return CUresult::INVALID_VALUE;
    }
    done(initialise())
}

pub(crate) unsafe fn cuDriverGetVersion(driver_version: *mut c_int) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(driver_version, Ok(version_served() as i32)) }
}

/// A text of the error, or null and INVALID_VALUE if the error is none of the driver's.
///
/// # Safety
///
/// `target` is null or a place for a pointer.
unsafe fn text(target: *mut *const c_char, text: Option<&'static str>) -> CUresult {
    let pointer = text.map_or(core::ptr::null(), |text| text.as_ptr().cast());
    // SAFETY: by contract.
    unsafe { answer_if_asked(target, pointer) };
    if target.is_null() || text.is_none() {
        CUresult::INVALID_VALUE
    } else {
        CUresult::SUCCESS
    }
}

pub(crate) unsafe fn cuGetErrorName(error: CUresult, str: *mut *const c_char) -> CUresult {
    // SAFETY: the caller passes a place for a pointer.
    unsafe { text(str, error.name_with_nul()) }
}

pub(crate) unsafe fn cuGetErrorString(error: CUresult, str: *mut *const c_char) -> CUresult {
    // SAFETY: the caller passes a place for a pointer.
    unsafe { text(str, error.text_with_nul()) }
}

/// Searches for a name that a C caller passed.
///
/// # Safety
///
/// `symbol` is null or a C string.
unsafe fn search(symbol: *const c_char, version: c_int, flags: u64) -> Result<Found, CUresult> {
    if symbol.is_null() || flags & !proc_address::ALL_FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract, and not null.
    let name = unsafe { CStr::from_ptr(symbol) };
    let Ok(name) = name.to_str() else {
        return Ok(Found::UnknownName);
    };
    let per_thread = flags & proc_address::PER_THREAD_DEFAULT_STREAM != 0;
    let version = u32::try_from(version).unwrap_or(0);
    Ok(proc_address::find(
        name,
        version,
        per_thread,
        version_served(),
    ))
}

fn address(row: usize, per_thread: bool) -> *mut c_void {
    EXPORTS[row].address(per_thread).cast_mut().cast()
}

pub(crate) unsafe fn cuGetProcAddress(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    driver_version: c_int,
    flags: u64,
) -> CUresult {
    // SAFETY: the caller passes a C string.
    let found = unsafe { search(symbol, driver_version, flags) };
    let found = found.and_then(|found| match found {
        Found::Function { row, per_thread } => Ok(address(row, per_thread)),
        Found::UnknownName | Found::VersionTooLow => Err(CUresult::NOT_FOUND),
    });
    // SAFETY: the caller passes a place for an address.
    unsafe { answer(pfn, found) }
}

pub(crate) unsafe fn cuGetProcAddress_v2(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    driver_version: c_int,
    flags: u64,
    symbol_found: *mut CUdriverProcAddressQueryResult,
) -> CUresult {
    // SAFETY: the caller passes a C string.
    let found = unsafe { search(symbol, driver_version, flags) };
    let found = match found {
        Err(error) => return error,
        Ok(found) => found,
    };
    let (pointer, status) = match found {
        Found::Function { row, per_thread } => (address(row, per_thread), 0),
        Found::UnknownName => (core::ptr::null_mut(), 1),
        Found::VersionTooLow => (core::ptr::null_mut(), 2),
    };
    // SAFETY: the caller passes places for an address and a status, the latter may be null.
    unsafe {
        answer_if_asked(symbol_found, status);
        answer(pfn, Ok(pointer))
    }
}

/// What the private tables ask of this driver.
struct Host;

impl TableHost for Host {
    fn driver_version(&self) -> u32 {
        version_served()
    }

    fn devices(&self) -> Vec<DeviceIdentity> {
        let count = driver().map_or(0, |driver| driver.config.devices());
        (0..count)
            .map(|index| DeviceIdentity {
                uuid: device::uuid(index).bytes,
                pci_domain: 0,
                pci_bus: device::pci_bus(index),
                pci_device: 0,
            })
            .collect()
    }

    fn current_context(&self) -> usize {
        current_handle()
    }

    fn primary_context(&self, device: i32) -> Result<usize, CUresult> {
        let _inside = DOOR.enter();
        context::primary_handle(device)
    }

    fn context_id(&self, context: usize) -> Result<u64, CUresult> {
        context::find(CUcontext(context)).map(|context| context.id)
    }

    fn stream_id(&self, _context: usize, stream: usize) -> Result<u64, CUresult> {
        stream::id_of(CUstream(stream))
    }

    fn load_fat_binary(&self, wrapper: usize) -> Result<usize, CUresult> {
        let _inside = DOOR.enter();
        module::load_at(wrapper as *const c_void).map(|module| module.0)
    }

    fn module_functions(&self, module: usize) -> Result<Vec<usize>, CUresult> {
        module::functions_of(CUmodule(module))
    }

    fn log(&self, line: &str) {
        log::warn(line);
    }
}

pub(crate) unsafe fn cuGetExportTable(
    export_table: *mut *const c_void,
    export_table_id: *const CUuuid,
) -> CUresult {
    private_tables::register(&Host);
    // SAFETY: the caller passes a place for a pointer and a UUID.
    unsafe { private_tables::get_export_table(export_table, export_table_id) }
}
