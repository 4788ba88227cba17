//! Memory that programs of one lease share: the rows of the `ipc` area.
//!
//! *What:* what a worker has mapped can be exported by a random key, and another worker of the lease opens it: the daemon passes the question and
//! the descriptors on ([`registry::borrow`]). With the memory's descriptor comes the end of a pipe, by which the kernel tells each side whether the other
//! still has it, however it ended.
//!
//! ```text
//!  export ─▶ Export { memory, pipe } ── lend ──▶ Import { pipe's end }      the pipe hangs up when the last borrower has closed:
//!     │ given back while somebody has it                    │ lender gone     what is Kept goes back then
//!     └─▶ Kept: unmapped here, charged here, not released   └─▶ charged here
//! ```
//!
//! What is shared is a mapping of a context's ([`Shareable::Mapped`]) or the program's own physical memory ([`Shareable::Physical`]).
//!
//! *Rules:* only memory of the session's own is exported, and only by its key; whole handles, so that what is lent is what was charged. How much it is, and of
//! which device, its lender's worker says, and a client that says otherwise gets nothing. It is charged to the lender, as long as it is there, also after it was freed; afterwards to each session that has it ([`tend`]): more than there is, never less.
//!
//! # Safety
//! Handles come from the driver through this module, descriptors are open for as long as the call that gets their number, out parameters are locals.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

mod event;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use driver_api::Driver;
use driver_api::abi::CUdevice;
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::accounts::{Accounts, Made};
use super::call::{Call, CallError};
use super::end::lock;
use super::memory::{Memory, set_access};
use super::startup::uuid_of;
use crate::driver::cuda;
use crate::registry::{self, LentMemory};

pub(crate) use event::*;

/// `CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR`.
const POSIX_DESCRIPTOR: u32 = 1;
/// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
const READ_AND_WRITE: u32 = 3;

/// Most ranges that a session exports, and most that it opens: each has descriptors.
const MAX_SHARED: usize = 4096;

/// In the place of a device's UUID, for multicast objects.
const NO_DEVICE: [u8; 16] = [0; 16];

/// What memory is exported by.
type Key = [u8; 16];

/// What of a session's is exported or imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Shareable {
    /// What is mapped at an address, for a context.
    Mapped(u64),
    /// Physical memory of the program's own, by the client's number.
    Physical(u32),
}

/// Memory that others may open.
struct Export {
    key: Key,
    what: LentMemory,
    memory: OwnedFd,
    /// Hangs up when nobody has the other end.
    reader: OwnedFd,
    /// Lent as copies.
    writer: OwnedFd,
}

/// What another session lends.
struct Borrowed {
    memory: OwnedFd,
    writer: OwnedFd,
    what: LentMemory,
}

/// Memory of another session.
struct Import {
    size: u64,
    device: CUdevice,
    /// Breaks when the lender is gone.
    writer: OwnedFd,
    is_charged: bool,
}

/// Exported memory that was given back while others had it.
pub(super) struct Kept {
    handle: u64,
    size: u64,
    device: CUdevice,
    reader: OwnedFd,
}

/// What a session shares with others.
#[derive(Default)]
pub(crate) struct Shared {
    /// The session's number.
    session: u64,
    exports: Mutex<HashMap<Shareable, Export>>,
    imports: Mutex<BTreeMap<Shareable, Import>>,
    kept: Mutex<Vec<Kept>>,
    /// By the client's ids.
    events: Mutex<HashMap<u32, Arc<SharedEvent>>>,
    waits: Waits,
}

impl Shared {
    pub(crate) fn new(session: u64) -> Self {
        Self {
            session,
            ..Self::default()
        }
    }

    /// The session's number.
    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    /// What another session gets for a key, if that is one.
    pub(crate) fn lend(&self, key: &[u8]) -> Option<registry::Lent> {
        let lent = self.memory_of(key).or_else(|| self.event_of(key))?;
        lent.inspect_err(|error| tracing::warn!(%error, "nothing can be lent"))
            .ok()
    }

    fn memory_of(&self, key: &[u8]) -> Option<std::io::Result<registry::Lent>> {
        let exports = lock(&self.exports);
        let export = exports.values().find(|export| export.key == key)?;
        let files = [&export.memory, &export.writer].map(OwnedFd::try_clone);
        let files: std::io::Result<_> = files.into_iter().collect();
        let what = export.what;
        Some(files.map(|files| registry::Lent { files, what }))
    }

    fn event_of(&self, key: &[u8]) -> Option<std::io::Result<registry::Lent>> {
        let events = lock(&self.events);
        let event = events.values().find(|event| event.is_exported_by(key))?;
        Some(event.lend())
    }

    /// What may be exported is given back: what has to be kept, since others have it.
    pub(super) fn end_export(
        &self,
        what: Shareable,
        (handle, size, device): (u64, u64, CUdevice),
    ) -> Option<Kept> {
        let export = lock(&self.exports).remove(&what)?;
        // Ours; from now on the pipe hangs up with the last of theirs.
        drop(export.writer);
        let kept = Kept {
            handle,
            size,
            device,
            reader: export.reader,
        };
        (!is_broken(&kept.reader)).then_some(kept)
    }

    /// What was exported is given back, and nothing has to be kept for others.
    pub(super) fn forget_export(&self, what: Shareable) {
        lock(&self.exports).remove(&what);
    }

    /// Makes memory one that others may open, if it is not yet: what is found, its handle, its size and its device. It is looked for with the exports held, so that what is
    /// given back meanwhile is then taken out again.
    fn export<T>(
        &self,
        driver: &Driver,
        find: impl FnOnce() -> Result<(Shareable, (u64, u64, Option<CUdevice>), T), CUresult>,
    ) -> Result<(Key, T), CUresult> {
        let mut exports = lock(&self.exports);
        let (what, memory, found) = find()?;
        if let Some(export) = exports.get(&what) {
            return Ok((export.key, found));
        }
        if exports.len() >= MAX_SHARED {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        let export = export(driver, memory)?;
        let key = export.key;
        exports.insert(what, export);
        Ok((key, found))
    }

    /// Gets what another session of the lease has exported: the memory's descriptor, and the end of a pipe that breaks with the lender.
    fn borrow(&self, lender: u64, key: [u64; 2]) -> Result<Borrowed, CUresult> {
        if lender == self.session {
            return Err(CUresult::INVALID_CONTEXT);
        }
        if lock(&self.imports).len() >= MAX_SHARED {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        let key = key.map(u64::to_le_bytes);
        let lent = registry::borrow(lender, key.as_flattened()).ok_or(CUresult::INVALID_HANDLE)?;
        Borrowed::of(lent)
    }

    pub(super) fn keep(&self, kept: Kept) {
        lock(&self.kept).push(kept);
    }

    /// Another session's memory is given back.
    pub(super) fn end_import(
        &self,
        accounts: &Accounts,
        what: Shareable,
        give_back: impl FnOnce() -> Result<(), CUresult>,
    ) -> Result<(), CUresult> {
        let import = lock(&self.imports).remove(&what);
        let Some(charged) = import.filter(|import| import.is_charged) else {
            return give_back();
        };
        accounts.begin_to_give_back(charged.device);
        let result = give_back();
        match result {
            Ok(()) => accounts.gave_back(charged.device, Made::Exact(charged.size), false),
            Err(_) => accounts.stays(charged.device, Made::Exact(0)),
        }
        result
    }
}

impl Borrowed {
    fn of(lent: registry::Lent) -> Result<Self, CUresult> {
        let files = lent.files.try_into();
        let [memory, writer]: [OwnedFd; 2] = files.map_err(|_| CUresult::INVALID_HANDLE)?;
        let what = lent.what;
        Ok(Self {
            memory,
            writer,
            what,
        })
    }

    /// Whether it is what the client says, of this device.
    fn check(&self, bytes: u64, device: [u8; 16]) -> Result<(), CUresult> {
        match self.what == (LentMemory { bytes, device }) {
            true => Ok(()),
            false => Err(CUresult::INVALID_HANDLE),
        }
    }
}

/// Whether nobody has the other end of a pipe.
fn is_broken(end: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(end, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let broken = PollFlags::HUP | PollFlags::ERR;
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().intersects(broken)
}

/// Gives back what was kept and nobody has any more, and takes over the charge of what was lent by sessions that are gone. From time to time.
pub(super) fn tend(driver: &Driver, memory: &Memory) {
    let (shared, accounts) = (&memory.shared, &memory.accounts);
    let gone: Vec<Kept> = lock(&shared.kept)
        .extract_if(.., |kept| is_broken(&kept.reader))
        .collect();
    for kept in gone {
        accounts.begin_to_give_back(kept.device);
        match cuda!(driver, cuMemRelease(kept.handle)) {
            Ok(()) => accounts.gave_back(kept.device, Made::Exact(kept.size), false),
            Err(error) => {
                tracing::warn!(%error, "memory that was lent cannot be given back");
                accounts.stays(kept.device, Made::Exact(0));
            }
        }
    }
    for import in lock(&shared.imports).values_mut() {
        if !import.is_charged && is_broken(&import.writer) {
            import.is_charged = accounts.take_over(import.device, import.size);
        }
    }
}

/// Makes a range of the session's memory one that others may open.
pub(crate) fn gpurunIpcExport(
    call: &mut Call<'_>,
    request: &request::GpurunIpcExport,
) -> Result<(), CallError> {
    let shared = &call.session.memory.shared;
    let memory = &call.session.memory;
    let find = || {
        let (address, handle, size, device) = memory.mapped_at(request.address())?;
        let what = (handle, size, Some(device));
        Ok((Shareable::Mapped(address), what, (address, size)))
    };
    let (key, (address, size)) = shared.export(call.driver(), find)?;
    let [low, high] = halves(&key);
    let answer = reply::GpurunIpcExport::new(shared.session, low, high, address, size);
    call.reply(&answer);
    Ok(())
}

/// [`gpurunIpcExport`] for physical memory of the program's own, or a multicast object, which is of no device.
pub(super) fn export_physical(
    call: &mut Call<'_>,
    physical: u32,
    (handle, size): (u64, u64),
    device: Option<CUdevice>,
) -> Result<(), CUresult> {
    let shared = &call.session.memory.shared;
    let what = (Shareable::Physical(physical), (handle, size, device), ());
    let (key, ()) = shared.export(call.driver(), || Ok(what))?;
    let [low, high] = halves(&key);
    let answer = reply::GpurunPhysicalExport::new(shared.session, low, high);
    call.reply(&answer);
    Ok(())
}

fn export(
    driver: &Driver,
    (handle, bytes, device): (u64, u64, Option<CUdevice>),
) -> Result<Export, CUresult> {
    let device = match device {
        Some(device) => uuid_of(driver, device)?,
        None => NO_DEVICE,
    };
    let mut number: i32 = -1;
    cuda!(
        driver,
        cuMemExportToShareableHandle((&raw mut number).cast(), handle, POSIX_DESCRIPTOR, 0)
    )?;
    if number < 0 {
        return Err(CUresult::UNKNOWN);
    }
    // SAFETY: the driver has just opened it for us.
    let memory = unsafe { OwnedFd::from_raw_fd(number) };
    let (reader, writer) = new_pipe()?;
    Ok(Export {
        key: new_key()?,
        what: LentMemory { bytes, device },
        memory,
        reader,
        writer,
    })
}

fn new_pipe() -> Result<(OwnedFd, OwnedFd), CUresult> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|_| CUresult::OPERATING_SYSTEM)
}

/// A key that nobody can guess.
fn new_key() -> Result<Key, CUresult> {
    let mut key = Key::default();
    rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())
        .map_err(|_| CUresult::OPERATING_SYSTEM)?;
    Ok(key)
}

fn halves(key: &Key) -> [u64; 2] {
    let half = |from: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&key[from..from + 8]);
        u64::from_le_bytes(bytes)
    };
    [half(0), half(8)]
}

/// Maps what another session of the lease has exported at an address of a window.
pub(crate) fn gpurunIpcOpen(
    call: &mut Call<'_>,
    request: &request::GpurunIpcOpen,
) -> Result<(), CallError> {
    let (address, size, device) = (request.address(), request.size(), request.device());
    let context = Arc::clone(call.context()?);
    let memory = &call.session.memory;
    call.session.devices.check(device)?;
    let key = [request.key_low(), request.key_high()];
    let lent = memory.shared.borrow(request.lender(), key)?;
    lent.check(size, uuid_of(call.driver(), device)?)?;
    memory.claim_import(address, size, context.serial, device)?;
    let import = Import {
        size,
        device,
        writer: lent.writer,
        is_charged: false,
    };
    let opened = open(
        call.driver(),
        &lent.memory,
        (address, size),
        [device, context.device],
    );
    // Known before it can be named, so that it is never mapped without being tended.
    if opened.is_ok() {
        lock(&memory.shared.imports).insert(Shareable::Mapped(address), import);
    }
    memory.settle_import(address, opened.ok());
    opened?;
    Ok(())
}

/// The driver's handle of another session's memory.
fn import(driver: &Driver, file: &OwnedFd) -> Result<u64, CUresult> {
    let mut handle = 0;
    let number = std::ptr::without_provenance_mut(file.as_raw_fd() as usize);
    cuda!(
        driver,
        cuMemImportFromShareableHandle(&mut handle, number, POSIX_DESCRIPTOR)
    )?;
    Ok(handle)
}

/// The driver's handle of physical memory that another session of the lease has exported; it counts as `physical` from then on.
pub(super) fn import_physical(
    call: &Call<'_>,
    physical: u32,
    (size, device): (u64, CUdevice),
    (lender, key): (u64, [u64; 2]),
) -> Result<u64, CUresult> {
    let shared = &call.session.memory.shared;
    let lent = shared.borrow(lender, key)?;
    lent.check(size, uuid_of(call.driver(), device)?)?;
    let handle = import(call.driver(), &lent.memory)?;
    let import = Import {
        size,
        device,
        writer: lent.writer,
        is_charged: false,
    };
    lock(&shared.imports).insert(Shareable::Physical(physical), import);
    Ok(handle)
}

/// The driver's handle of a multicast object that another session of the lease has exported. It is the driver's own: the lender may go.
pub(super) fn import_multicast(
    call: &Call<'_>,
    size: u64,
    (lender, key): (u64, [u64; 2]),
) -> Result<u64, CUresult> {
    let lent = call.session.memory.shared.borrow(lender, key)?;
    lent.check(size, NO_DEVICE)?;
    import(call.driver(), &lent.memory)
}

/// Imports, maps, gives access; undoes what was done if a step fails.
fn open(
    driver: &Driver,
    file: &OwnedFd,
    (address, size): (u64, u64),
    devices: [CUdevice; 2],
) -> Result<u64, CUresult> {
    let handle = import(driver, file)?;
    let mapped = cuda!(driver, cuMemMap(address, size as usize, 0, handle, 0)).and_then(|()| {
        devices
            .into_iter()
            .try_for_each(|device| set_access(driver, (address, size), device, READ_AND_WRITE))
            .inspect_err(|_| {
                // The first error is the one to tell.
                let _ = cuda!(driver, cuMemUnmap(address, size as usize));
            })
    });
    mapped.map(|()| handle).inspect_err(|_| {
        let _ = cuda!(driver, cuMemRelease(handle));
    })
}

/// Unmaps another session's memory. The client has waited for what used it.
pub(crate) fn gpurunIpcClose(
    call: &mut Call<'_>,
    request: &request::GpurunIpcClose,
) -> Result<(), CallError> {
    call.session
        .memory
        .close_import(call.driver(), request.address(), request.size())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::MemfdFlags;

    const LENT: LentMemory = LentMemory {
        bytes: 2 << 20,
        device: [5; 16],
    };

    fn exported(address: u64) -> Shared {
        let shared = Shared::new(1);
        export_at(&shared, address);
        shared
    }

    fn export_at(shared: &Shared, address: u64) {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let memory = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).expect("a file");
        let export = Export {
            key: [7; 16],
            what: LENT,
            memory,
            reader,
            writer,
        };
        lock(&shared.exports).insert(Shareable::Mapped(address), export);
    }

    #[test]
    fn what_nobody_has_opened_is_given_back_at_once() {
        let shared = exported(4096);
        assert!(shared.lend(&[8; 16]).is_none(), "another key");
        drop(shared.lend(&[7; 16]).expect("lent"));
        assert!(
            shared
                .end_export(Shareable::Mapped(4096), (1, 2, 0))
                .is_none()
        );
        assert!(shared.lend(&[7; 16]).is_none(), "given back");
    }

    #[test]
    fn what_somebody_has_is_kept_until_the_last_has_closed() {
        let shared = exported(4096);
        let lent = [(); 2].map(|()| shared.lend(&[7; 16]).expect("lent"));
        let kept = shared
            .end_export(Shareable::Mapped(4096), (1, 2, 0))
            .expect("somebody has it");
        let [one, other] = lent;
        drop(one);
        assert!(!is_broken(&kept.reader));
        assert!(!is_broken(&other.files[1]), "the lender is there");
        drop(other);
        assert!(is_broken(&kept.reader));
    }

    #[test]
    fn who_has_it_sees_that_the_lender_is_gone() {
        let shared = exported(4096);
        let lent = shared.lend(&[7; 16]).expect("lent");
        assert!(!is_broken(&lent.files[1]));
        drop(shared);
        assert!(is_broken(&lent.files[1]));
    }

    #[test]
    fn what_is_kept_is_released_with_its_last_borrower() {
        let driver = crate::worker::tests::fake::driver(true);
        let memory = Memory::new(1, Vec::new(), Accounts::default());
        let shared = &memory.shared;
        export_at(shared, 4096);
        let lent = shared.lend(&[7; 16]).expect("lent");
        let kept = shared.end_export(Shareable::Mapped(4096), (1, 2, 0));
        shared.keep(kept.expect("somebody has it"));
        tend(driver, &memory);
        assert_eq!(lock(&shared.kept).len(), 1);
        drop(lent);
        tend(driver, &memory);
        assert!(lock(&shared.kept).is_empty());
    }

    #[test]
    fn what_a_lender_leaves_behind_is_charged_to_who_has_it() {
        let driver = crate::worker::tests::fake::driver(true);
        let lender = exported(4096);
        let borrower = Memory::new(2, Vec::new(), Accounts::default());
        let lent = Borrowed::of(lender.lend(&[7; 16]).expect("lent")).expect("two");
        let import = Import {
            size: lent.what.bytes,
            device: 0,
            writer: lent.writer,
            is_charged: false,
        };
        let what = Shareable::Mapped(1 << 30);
        lock(&borrower.shared.imports).insert(what, import);
        let is_charged = || lock(&borrower.shared.imports)[&what].is_charged;
        tend(driver, &borrower);
        assert!(!is_charged(), "its lender is there");
        drop(lender);
        tend(driver, &borrower);
        assert!(is_charged());
    }

    #[test]
    fn a_session_borrows_nothing_from_itself() {
        let shared = Shared::new(7);
        let refused = shared.borrow(7, [1, 2]).err();
        assert_eq!(refused, Some(CUresult::INVALID_CONTEXT));
    }

    #[test]
    fn what_is_lent_is_as_large_and_of_the_device_that_its_lender_says() {
        let shared = exported(4096);
        let lent = shared.lend(&[7; 16]).expect("lent");
        let borrowed = Borrowed::of(lent).expect("two descriptors");
        assert_eq!(borrowed.check(LENT.bytes, LENT.device), Ok(()));
        for (bytes, device) in [
            (LENT.bytes / 2, LENT.device),
            (LENT.bytes * 2, LENT.device),
            (LENT.bytes, [6; 16]),
        ] {
            assert_eq!(borrowed.check(bytes, device), Err(CUresult::INVALID_HANDLE));
        }
        assert!(Borrowed::of(registry::Lent::default()).is_err());
    }
}
