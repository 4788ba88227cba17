//! Physical memory of processes of one lease, by descriptor.
//!
//! *What:* the descriptor that a program gets is of a small sealed file that names the memory: the session that has exported it, the key that its worker has
//! given, size and device. Who gets the descriptor reads the file, and its worker gets the memory from the other worker. *Why a file:* it can be passed on
//! as any descriptor can.
//!
//! ```text
//!  cuMemExportToShareableHandle ─▶ the file, locked ── SCM_RIGHTS, fork, dup ──▶ cuMemImportFromShareableHandle
//!            └─ Watch: the same file, opened again: while the lock is held somebody has the descriptor, and the memory stays
//! ```
//!
//! *Rules:* the lock belongs to the open file, so the kernel lets go of it with the last descriptor, whoever has that. Memory of which only descriptors are left
//! is looked at whenever memory is made or given up. A file of another process is believed in nothing: the worker asks for what it names, and gets it only from
//! a session of the same lease.
//!
//! # Safety
//! Functions named like the driver's write results through pointers that they have checked for null; the descriptor of a [`Watch`] is closed once.
#![expect(
    unsafe_code,
    reason = "out parameters of a C ABI, and descriptors by number"
)]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_ulonglong, c_void};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use driver_api::abi::{
    CUmemAllocationHandleType, CUmemAllocationProp, CUmemGenericAllocationHandle, CUmemLocation,
    CUresult,
};
use driver_api::wire::request::{GpurunPhysicalExport, GpurunPhysicalImport};
use rustix::fs::{FlockOperation, Mode, OFlags};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    NO_CONTEXT, ON_DEVICE, PINNED, POSIX_DESCRIPTOR, Physical, Uses, handle_of, multicast,
    physical_of,
};
use crate::entry::code;
use crate::memory::{GRANULARITY, out};
use crate::session::{self, Session};
use crate::token;

const MAGIC: [u8; 8] = *b"gpshare1";

/// In the place of a device's UUID.
const NO_DEVICE: [u8; 16] = [0; 16];

/// What is in the file.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Token {
    magic: [u8; 8],
    pub(super) lender: u64,
    pub(super) key: [u64; 2],
    pub(super) size: u64,
    /// Its UUID; zeros of a multicast object.
    device: [u8; 16],
}

impl Token {
    /// A new file of which nobody but its descriptors keeps the lock, and how to see that they are gone.
    fn file(&self) -> rustix::io::Result<(OwnedFd, Watch)> {
        let file = token::file("gpurun-memory", self)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let watch = Watch::new(&file)?;
        Ok((file, watch))
    }

    /// What a descriptor names, if it is one of ours.
    fn of(file: BorrowedFd<'_>) -> Result<Self, CUresult> {
        let is_sound = |token: &Self| {
            let is_whole = token.size > 0 && token.size.is_multiple_of(GRANULARITY);
            token.magic == MAGIC && is_whole
        };
        let token = token::read::<Self>(file).filter(is_sound);
        token.ok_or(CUresult::INVALID_VALUE)
    }
}

/// Tells whether somebody still has the descriptor of a file.
///
/// The program may close descriptors that it does not know, and open its own at the same number: ours is recognised before it is used.
#[derive(Debug)]
struct Watch {
    file: ManuallyDrop<OwnedFd>,
    inode: (u64, u64),
}

/// Where descriptors of ours are out of the way.
const FIRST_DESCRIPTOR: RawFd = 1000;

fn inode_of(file: impl AsFd) -> rustix::io::Result<(u64, u64)> {
    rustix::fs::fstat(file).map(|status| (status.st_dev, status.st_ino))
}

impl Watch {
    fn new(file: &OwnedFd) -> rustix::io::Result<Self> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let again = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let high = rustix::io::fcntl_dupfd_cloexec(&again, FIRST_DESCRIPTOR);
        Ok(Self {
            inode: inode_of(file)?,
            file: ManuallyDrop::new(high.unwrap_or(again)),
        })
    }

    fn is_ours(&self) -> bool {
        inode_of(&*self.file) == Ok(self.inode)
    }

    fn is_held(&self) -> bool {
        let lock = || rustix::fs::flock(&*self.file, FlockOperation::NonBlockingLockShared);
        self.is_ours() && lock() == Err(rustix::io::Errno::WOULDBLOCK)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: it is dropped once, here, and it is ours.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

/// How physical memory is shared.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// By what it is exported, or was imported.
    token: Option<Token>,
    watches: Vec<Watch>,
}

impl Sharing {
    /// Of what was imported by this.
    pub(super) fn of(token: Token) -> Self {
        Self {
            token: Some(token),
            watches: Vec::new(),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.watches.iter().any(Watch::is_held)
    }
}

/// Memory of which only descriptors were left when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Lingering(Mutex<Vec<Arc<Physical>>>);

impl Lingering {
    pub(super) fn add(&self, physical: Arc<Physical>) {
        let mut lingering = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.push(physical);
    }

    fn take(&self) -> Vec<Arc<Physical>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Gives back memory whose last descriptor is closed.
pub(super) fn sweep(session: &Session) -> Result<(), CUresult> {
    for physical in session.objects.virtual_memory.lingering.take() {
        physical.give_up(session, |_| Ok(()))?;
    }
    Ok(())
}

/// What names the memory: the worker is asked the first time.
fn token_of(session: &Session, physical: &Physical) -> Result<Token, CUresult> {
    if let Some(token) = physical.uses().sharing.token {
        return Ok(token);
    }
    let reply = session.ask_in(NO_CONTEXT, &GpurunPhysicalExport::new(physical.id), &[])?;
    let token = Token {
        magic: MAGIC,
        lender: reply.lender(),
        key: [reply.key_low(), reply.key_high()],
        size: physical.size,
        device: match physical.team {
            Some(_) => NO_DEVICE,
            None => session.devices[physical.device].identity().uuid,
        },
    };
    physical.uses().sharing.token = Some(token);
    Ok(token)
}

fn export(session: &Session, physical: &Physical) -> Result<RawFd, CUresult> {
    let token = token_of(session, physical)?;
    let (file, watch) = token.file().map_err(|_| CUresult::OPERATING_SYSTEM)?;
    let mut uses = physical.uses();
    // Another thread may have released it meanwhile.
    if uses.is_over {
        return Err(CUresult::INVALID_VALUE);
    }
    uses.sharing.watches.retain(Watch::is_held);
    uses.sharing.watches.push(watch);
    Ok(file.into_raw_fd())
}

pub(crate) unsafe fn cuMemExportToShareableHandle(
    shareable_handle: *mut c_void,
    handle: CUmemGenericAllocationHandle,
    handle_type: CUmemAllocationHandleType,
    flags: c_ulonglong,
) -> CUresult {
    code((|| {
        let place = out(shareable_handle.cast::<RawFd>())?;
        let session = session::get()?;
        let physical = physical_of(session, handle)?;
        let is_exportable = match &physical.team {
            Some(team) => team.is_exportable(),
            None => physical.properties.requested_handle_types & handle_type != 0,
        };
        if handle_type != POSIX_DESCRIPTOR || !is_exportable || flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        sweep(session)?;
        let descriptor = export(session, &physical)?;
        // SAFETY: checked by `out`.
        unsafe { place.write(descriptor) };
        Ok(())
    })())
}

/// Memory that this process has exported or imported by the same file: one handle more.
fn known(session: &Session, token: &Token) -> Option<CUmemGenericAllocationHandle> {
    let is_it = |physical: &Physical| physical.uses().sharing.token.as_ref() == Some(token);
    let physical = session.objects.physical.select(is_it).into_iter().next()?;
    let mut uses = physical.uses();
    if uses.is_over {
        return None;
    }
    uses.handles += 1;
    Some(handle_of(&physical))
}

fn import(session: &Session, token: Token) -> Result<CUmemGenericAllocationHandle, CUresult> {
    let imported = match token.device {
        NO_DEVICE => multicast::import(session, token),
        _ => import_memory(session, token),
    };
    match imported {
        Ok(physical) => Ok(handle_of(&physical)),
        // The handle that is wrong is the descriptor.
        Err(CUresult::INVALID_HANDLE | CUresult::INVALID_CONTEXT) => Err(CUresult::INVALID_VALUE),
        Err(error) => Err(error),
    }
}

fn import_memory(session: &Session, token: Token) -> Result<Arc<Physical>, CUresult> {
    let mut devices = session.devices.iter();
    let device = devices.position(|device| device.identity().uuid == token.device);
    let device = device.ok_or(CUresult::INVALID_DEVICE)?;
    let ordinal = i32::try_from(device).map_err(|_| CUresult::INVALID_DEVICE)?;
    let properties = CUmemAllocationProp {
        kind: PINNED,
        requested_handle_types: POSIX_DESCRIPTOR,
        location: CUmemLocation {
            kind: ON_DEVICE,
            id: ordinal,
        },
        ..CUmemAllocationProp::default()
    };
    let physical = session.objects.physical.insert_with(|id| Physical {
        id,
        size: token.size,
        device,
        properties,
        uses: Mutex::new(Uses::first(Sharing::of(token))),
        team: None,
    });
    let [low, high] = token.key;
    let request =
        GpurunPhysicalImport::new(physical.id, ordinal, token.size, token.lender, low, high);
    if let Err(error) = session.ask_in(NO_CONTEXT, &request, &[]) {
        session.objects.physical.remove(physical.id);
        return Err(error);
    }
    Ok(physical)
}

pub(crate) unsafe fn cuMemImportFromShareableHandle(
    handle: *mut CUmemGenericAllocationHandle,
    os_handle: *mut c_void,
    sh_handle_type: CUmemAllocationHandleType,
) -> CUresult {
    code((|| {
        let place = out(handle)?;
        let session = session::get()?;
        let descriptor = RawFd::try_from(os_handle.addr()).map_err(|_| CUresult::INVALID_VALUE)?;
        if sh_handle_type != POSIX_DESCRIPTOR || descriptor < 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: not -1; the API's contract says that it is open, and it is only read from.
        let token = Token::of(unsafe { BorrowedFd::borrow_raw(descriptor) })?;
        // Two threads that import one file at a time get the same handle.
        static IMPORTING: Mutex<()> = Mutex::new(());
        let _importing = IMPORTING.lock().unwrap_or_else(PoisonError::into_inner);
        let imported = match known(session, &token) {
            Some(known) => known,
            None => import(session, token)?,
        };
        // SAFETY: checked by `out`.
        unsafe { place.write(imported) };
        Ok(())
    })())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::MemfdFlags;

    const TOKEN: Token = Token {
        magic: MAGIC,
        lender: 3,
        key: [1, 2],
        size: GRANULARITY,
        device: [9; 16],
    };

    #[test]
    fn a_file_is_held_until_its_last_descriptor_is_closed() {
        let (file, watch) = TOKEN.file().expect("a file");
        assert_eq!(Token::of(file.as_fd()), Ok(TOKEN));
        let copy = file.try_clone().expect("a copy");
        drop(file);
        assert!(watch.is_held());
        drop(copy);
        assert!(!watch.is_held());
    }

    #[test]
    fn other_files_are_refused() {
        let (reader, _writer) = rustix::pipe::pipe().expect("a pipe");
        assert_eq!(Token::of(reader.as_fd()), Err(CUresult::INVALID_VALUE));
        for wrong in [
            Token { size: 0, ..TOKEN },
            Token {
                size: GRANULARITY + 1,
                ..TOKEN
            },
            Token {
                magic: [0; 8],
                ..TOKEN
            },
        ] {
            let (file, _watch) = wrong.file().expect("a file");
            assert_eq!(Token::of(file.as_fd()), Err(CUresult::INVALID_VALUE));
        }
    }

    #[test]
    fn a_number_that_the_program_has_taken_is_let_alone() {
        let (_file, watch) = TOKEN.file().expect("a file");
        let taken = rustix::fs::memfd_create("taken", MemfdFlags::CLOEXEC).expect("a file");
        let watch = Watch {
            file: ManuallyDrop::new(taken),
            inode: watch.inode,
        };
        let number = watch.file.as_raw_fd();
        assert!(!watch.is_held());
        drop(watch);
        let path = format!("/proc/self/fd/{number}");
        assert!(rustix::fs::readlink(path, Vec::new()).is_ok(), "open");
    }
}
