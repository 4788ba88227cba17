//! The private tables behind `cuGetExportTable`.
//!
//! The CUDA runtime does not start without them: every cudart asks for six or more tables by UUID, calls into
//! them on nearly every call, and checks one value cryptographically. Which tables, which slots and what they
//! must do at least was learnt by running real clients; what is not known is refused, and says so.
//!
//! The tables are the same in the shim and in the software GPU. Each library implements [`TableHost`] and
//! registers it once with [`register`]; the slots ask it for everything that is the library's own.
//!
//! Rules: slot 0 is the table's size in bytes, except in the table of context-local storage, which has
//! none. A slot that nobody knows answers `CUDA_ERROR_NOT_SUPPORTED` with one log line. An unknown UUID gets
//! `CUDA_ERROR_INVALID_VALUE`, a null pointer and one log line. Works before `cuInit`.

mod storage;
mod tables;
mod validity;

use std::sync::{Mutex, OnceLock, PoisonError};

pub use storage::context_destroyed;
pub use tables::get_export_table;

use crate::abi::CUresult;
use crate::fresh::Fresh;

/// A device, as far as the validity value needs it. All of it must be exactly what the library reports elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// `cuDeviceGetUuid`.
    pub uuid: [u8; 16],
    /// `CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID`.
    pub pci_domain: i32,
    /// `CU_DEVICE_ATTRIBUTE_PCI_BUS_ID`.
    pub pci_bus: i32,
    /// `CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID`.
    pub pci_device: i32,
}

/// What the tables need of the library that offers them. Handles are plain numbers here.
pub trait TableHost: Sync {
    /// `cuDriverGetVersion`.
    fn driver_version(&self) -> u32;
    /// The devices in order; none before they are known.
    fn devices(&self) -> Vec<DeviceIdentity>;
    /// The calling thread's current context, 0 for none.
    fn current_context(&self) -> usize;
    /// The handle of a device's primary context, which is not retained by asking.
    ///
    /// # Errors
    ///
    /// What the driver answers for a wrong device.
    fn primary_context(&self, device: i32) -> Result<usize, CUresult>;
    /// `cuCtxGetId`; context 0 is the current one.
    ///
    /// # Errors
    ///
    /// What the driver answers for a wrong context.
    fn context_id(&self, context: usize) -> Result<u64, CUresult>;
    /// `cuStreamGetId` of a stream of this context.
    ///
    /// # Errors
    ///
    /// What the driver answers for a wrong stream.
    fn stream_id(&self, context: usize, stream: usize) -> Result<u64, CUresult>;
    /// `cuModuleLoadFatBinary` of what is at this address.
    ///
    /// # Errors
    ///
    /// What the driver answers.
    fn load_fat_binary(&self, wrapper: usize) -> Result<usize, CUresult>;
    /// Every function of a module.
    ///
    /// # Errors
    ///
    /// What the driver answers for a wrong module.
    fn module_functions(&self, module: usize) -> Result<Vec<usize>, CUresult>;
    /// Writes one line to the library's log, at the level of warnings.
    fn log(&self, line: &str);
}

static HOST: OnceLock<&'static dyn TableHost> = OnceLock::new();

/// Says which library offers the tables; only the first call counts.
pub fn register(host: &'static dyn TableHost) {
    let _ = HOST.set(host);
}

fn host() -> Result<&'static dyn TableHost, CUresult> {
    HOST.get().copied().ok_or(CUresult::NOT_INITIALIZED)
}

/// For a child after `fork`: what the parent's threads kept, and the locks that they may hold, stay behind.
pub fn forget() {
    storage::forget();
    LOGGED.renew();
}

/// The most different lines that are remembered as already logged.
const MAX_LOGGED_ONCE: usize = 64;

static LOGGED: Fresh<Mutex<Vec<String>>> = Fresh::new();

/// Logs a line the first time that it occurs.
fn log_once(line: String) {
    let mut logged = LOGGED.get().lock().unwrap_or_else(PoisonError::into_inner);
    if logged.len() >= MAX_LOGGED_ONCE || logged.contains(&line) {
        return;
    }
    if let Ok(host) = host() {
        host.log(&line);
    }
    logged.push(line);
}
