//! Calls from a kernel to its host: `vprintf`, `__assertfail`, `malloc` and `free`.
//!
//! # Safety
//!
//! Touches memory only at addresses that [`locate`] found accessible.
#![expect(unsafe_code, reason = "reads arguments from device memory")]

use super::HostServices;
use super::fault::FaultKind;
use super::memory::locate;
use super::printf::{Arguments, format};
use super::program::{Service, ServiceSite};
use super::rows::{Context, LANES};

/// Longest string that is read from device memory.
const MAX_STRING: usize = 1 << 20;

/// The host of a launch.
pub(crate) struct Host<'a> {
    pub(crate) services: &'a HostServices<'a>,
}

/// Memory as one lane sees it.
pub(crate) struct View<'c, 'a> {
    context: &'c Context<'a>,
    lane: usize,
}

impl View<'_, '_> {
    /// `N` bytes at generic address `address`.
    pub(crate) fn read<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let host = locate(self.context, self.lane, address, N as u64)?;
        // SAFETY: `locate` found N accessible bytes there.
        Some(unsafe { (host as *const [u8; N]).read_unaligned() })
    }

    /// The bytes at `address` before the next NUL.
    pub(crate) fn string(&self, address: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let [byte] = self.read(address.checked_add(bytes.len() as u64)?)?;
            if byte == 0 || bytes.len() == MAX_STRING {
                return Some(bytes);
            }
            bytes.push(byte);
        }
    }
}

impl Host<'_> {
    /// Serves `site` for `lanes`. Whether the warp may go on.
    pub(crate) fn serve(
        &self,
        context: &mut Context<'_>,
        site: &ServiceSite,
        lanes: u32,
        local_base: u32,
    ) -> bool {
        for lane in (0..LANES).filter(|&lane| lanes >> lane & 1 != 0) {
            let served = match site.service {
                Service::Printf => self.printf(context, site, lane, local_base),
                Service::Malloc => self.malloc(context, site, lane, local_base),
                Service::Free => match self.free(context, site, lane, local_base) {
                    Ok(()) => true,
                    Err(address) => {
                        context.fail_in(lane, FaultKind::Trap, None);
                        context.detail = format!("free of {address:#x}, which is no allocation");
                        return false;
                    }
                },
                Service::AssertFail => {
                    self.assert_fail(context, site, lane, local_base);
                    return false;
                }
            };
            if !served {
                context.fail_in(lane, FaultKind::IllegalAddress, None);
                return false;
            }
        }
        true
    }

    fn printf(
        &self,
        context: &Context<'_>,
        site: &ServiceSite,
        lane: usize,
        local_base: u32,
    ) -> bool {
        let view = View { context, lane };
        let Some(pointer) = argument(context, site, lane, local_base, 0) else {
            return false;
        };
        let buffer = argument(context, site, lane, local_base, 1).unwrap_or(0);
        let Some(text) = view.string(pointer) else {
            return false;
        };
        let mut arguments = Arguments::new(&view, buffer);
        let written = arguments.count_in(&text);
        let output = format(&text, &mut arguments);
        (self.services.printf)(&output);
        if let Some(&offset) = site.returns.first() {
            store(context, lane, local_base + offset, &written.to_le_bytes());
        }
        true
    }

    fn malloc(
        &self,
        context: &Context<'_>,
        site: &ServiceSite,
        lane: usize,
        local_base: u32,
    ) -> bool {
        let Some(size) = argument(context, site, lane, local_base, 0) else {
            return false;
        };
        let heap = self.services.heap;
        let address = heap.and_then(|heap| heap.allocate(size)).unwrap_or(0);
        if let Some(&offset) = site.returns.first() {
            store(context, lane, local_base + offset, &address.to_le_bytes());
        }
        true
    }

    /// Frees, or tells the address that is no allocation's.
    fn free(
        &self,
        context: &Context<'_>,
        site: &ServiceSite,
        lane: usize,
        local_base: u32,
    ) -> Result<(), u64> {
        let address = argument(context, site, lane, local_base, 0).unwrap_or(0);
        let heap = self.services.heap;
        if address == 0 || heap.is_some_and(|heap| heap.release(address)) {
            Ok(())
        } else {
            Err(address)
        }
    }

    /// Leaves the assertion's words in the context's fault.
    fn assert_fail(
        &self,
        context: &mut Context<'_>,
        site: &ServiceSite,
        lane: usize,
        local_base: u32,
    ) {
        let text = |index: usize| -> String {
            let view = View { context, lane };
            let address = argument(context, site, lane, local_base, index);
            let bytes = address
                .and_then(|address| view.string(address))
                .unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let line = argument(context, site, lane, local_base, 2).unwrap_or(0) as u32;
        let detail = format!(
            "{}:{line}: {}: Assertion `{}` failed.",
            text(1),
            text(3),
            text(0)
        );
        context.fail_in(lane, FaultKind::Assert, None);
        context.detail = detail;
    }
}

/// The eight bytes of argument `index`.
fn argument(
    context: &Context<'_>,
    site: &ServiceSite,
    lane: usize,
    local_base: u32,
    index: usize,
) -> Option<u64> {
    let offset = local_base + *site.arguments.get(index)?;
    let view = View { context, lane };
    view.read::<8>(super::LOCAL_WINDOW + u64::from(offset))
        .map(u64::from_le_bytes)
}

/// Writes to a lane's local memory.
fn store(context: &Context<'_>, lane: usize, offset: u32, value: &[u8]) {
    let address = super::LOCAL_WINDOW + u64::from(offset);
    if let Some(host) = locate(context, lane, address, value.len() as u64) {
        // SAFETY: `locate` found as many accessible bytes there.
        unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), host as *mut u8, value.len()) };
    }
}
