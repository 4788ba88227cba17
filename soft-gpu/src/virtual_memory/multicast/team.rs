//! What the processes that have a multicast object share: who is in its team, and what memory is bound for whom.
//!
//! The descriptor of an object is one end of a pair of connected sockets. What belongs to the object waits in that end's queue, where every process that has
//! the descriptor can look at it, and gets descriptors of its own for what it finds:
//!
//! ```text
//!  the descriptor ◀── queue: [ a page of numbers, the other end ] [ a binding, its memory's file ] [ … ] ◀── the other end, for who binds
//! ```
//!
//! *Why so:* a descriptor is all that one process gets of another, be it the program itself or a worker that is allowed nothing else; memory that is bound
//! is more descriptors, which come later; and the kernel gives all of it back when the last descriptor of the object is closed. *Rules:* who looks or changes holds a lock of the
//! page's file, which ends with its process. Messages are looked at without taking them; who unbinds takes each out once and puts in again what stays, so that a process that is
//! killed there loses the message at hand for all. Who comes new has no page yet and looks without the lock, from the first message on, where others are looking: the page says how many
//! bindings there are, and who finds fewer looks again. What is read is another process's word: it is checked before it is used.
//!
//! # Safety
//!
//! A [`Team`] owns the page that its numbers lie in, which nobody can make smaller; they are atomics. Descriptors are open for as long as the call that gets their number.

#![expect(unsafe_code, reason = "numbers in a shared page; an option of sockets")]

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use driver_api::abi::CUresult;
use rustix::fs::{FlockOperation, SealFlags, fcntl_lock};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sockopt,
};

use crate::memory::map::{Mapping, sealed_file};
use crate::threads::lock;

/// What a message begins with.
const OBJECT: u64 = u64::from_le_bytes(*b"softmc01");
const BINDING: u64 = u64::from_le_bytes(*b"softmcb1");
const PAGE_BYTES: u64 = 4096;
/// Most bindings of an object, and what the queue is to hold, where the machine allows it: a message takes several hundred bytes there.
const MOST_BINDINGS: usize = 256;
const QUEUE_BYTES: usize = 512 << 10;

/// The numbers of the page.
#[derive(Debug, Clone, Copy)]
enum Number {
    /// How many devices there will be.
    Devices,
    Size,
    HandleTypes,
    /// Which there are, as bits, by their numbers on the machine.
    Members,
    /// Counts changes of bindings.
    Generation,
    /// The last binding's name.
    LastName,
    /// How many bindings there are.
    Bindings,
}

/// How often who is disturbed looks again, a millisecond later.
const ATTEMPTS: u32 = 100;

fn wait() {
    std::thread::sleep(Duration::from_millis(1));
}

/// Memory of a device that is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Binding {
    /// Never the same twice in an object.
    pub(super) name: u64,
    /// The device's number on the machine.
    pub(super) device: u64,
    /// Where in the object.
    pub(super) offset: u64,
    pub(super) size: u64,
    /// Where in the memory's file.
    pub(super) start: u64,
}

impl Binding {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.size
    }

    fn is_sound(&self) -> bool {
        let ends = |start: u64| {
            start
                .checked_add(self.size)
                .is_some_and(|end| end <= 1 << 46)
        };
        self.size > 0 && ends(self.offset) && ends(self.start)
    }
}

const WORDS: usize = 6;
type Message = [u64; WORDS];

/// A message and its descriptors.
type Received = (Message, Vec<OwnedFd>);

/// The processes' common side of an object.
#[derive(Debug)]
pub(super) struct Team {
    /// What others get.
    socket: OwnedFd,
    sender: OwnedFd,
    page: Mapping,
    file: OwnedFd,
}

/// One process's threads look one at a time: a lock of a file is the process's, and ends when any descriptor of the file is closed.
static LOOKING: Mutex<()> = Mutex::new(());

/// The lock of an object.
struct Looking<'a> {
    team: &'a Team,
    /// Descriptors of the page's file and of the sender, closed when the lock has been given back.
    met: Vec<OwnedFd>,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        // What is closed next would give it back anyway.
        let _ = fcntl_lock(&self.team.file, FlockOperation::Unlock);
        self.met.clear();
    }
}

fn refused(error: Errno) -> CUresult {
    match error {
        Errno::NOMEM
        | Errno::NOBUFS
        | Errno::AGAIN
        | Errno::MFILE
        | Errno::NFILE
        | Errno::TOOMANYREFS => CUresult::OUT_OF_MEMORY,
        _ => CUresult::OPERATING_SYSTEM,
    }
}

fn send(
    socket: BorrowedFd<'_>,
    message: &Message,
    files: &[BorrowedFd<'_>],
) -> Result<(), CUresult> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(files));
    let bytes = message.map(u64::to_le_bytes);
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let parts = [IoSlice::new(bytes.as_flattened())];
    let sent = retry_on_intr(|| rustix::net::sendmsg(socket, &parts, &mut ancillary, flags));
    sent.map(drop).map_err(refused)
}

/// The next message, or none.
fn receive(socket: BorrowedFd<'_>, flags: RecvFlags) -> Result<Option<Received>, CUresult> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [[0; 8]; WORDS];
    let mut parts = [IoSliceMut::new(bytes.as_flattened_mut())];
    let flags = flags | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received =
        retry_on_intr(|| rustix::net::recvmsg(socket, &mut parts, &mut ancillary, flags));
    let length = match received {
        Ok(message) => message.bytes,
        Err(Errno::AGAIN) => return Ok(None),
        Err(error) => return Err(refused(error)),
    };
    let files = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let files = files.flatten().collect();
    let whole = length == size_of::<Message>();
    let message = if whole {
        bytes.map(u64::from_le_bytes)
    } else {
        [0; WORDS]
    };
    // Nothing there, of a socket whose other ends are all closed.
    Ok((length > 0).then_some((message, files)))
}

/// Where looking begins: at this byte of what waits, and always at the first message if it is negative, as for sockets that nobody has asked this of.
fn look_from(socket: &OwnedFd, byte: libc::c_int) -> Result<(), CUresult> {
    // SAFETY: an open descriptor, and a value of the option's type.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const byte).cast(),
            size_of_val(&byte) as libc::socklen_t,
        )
    };
    (set == 0).then_some(()).ok_or(CUresult::OPERATING_SYSTEM)
}

/// What the first message of an object brings. Where others are looking it may be missed.
fn object_in(socket: &OwnedFd) -> Option<[OwnedFd; 2]> {
    for _ in 0..ATTEMPTS {
        look_from(socket, 0).ok()?;
        let mut is_empty = true;
        while let Some((message, files)) = peek(socket).ok()? {
            is_empty = false;
            if message[0] == OBJECT {
                return files.try_into().ok();
            }
        }
        if is_empty {
            return None;
        }
        wait();
    }
    None
}

fn peek(socket: &OwnedFd) -> Result<Option<Received>, CUresult> {
    receive(socket.as_fd(), RecvFlags::PEEK)
}

impl Team {
    /// A new object's, of so many devices, and nobody in it.
    pub(super) fn new(devices: u32, size: u64, handle_types: u64) -> Result<Self, CUresult> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let pair = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None);
        let (socket, sender) = pair.map_err(refused)?;
        // As much as the machine's limit allows: what does not fit is out of memory later.
        let _ = sockopt::set_socket_send_buffer_size(&sender, QUEUE_BYTES);
        let file = sealed_file(PAGE_BYTES)?;
        let page = page_of(&file)?;
        let team = Self {
            socket,
            sender,
            page,
            file,
        };
        team.number(Number::Devices).store(devices.into(), SeqCst);
        team.number(Number::Size).store(size, SeqCst);
        team.number(Number::HandleTypes).store(handle_types, SeqCst);
        let parts = [team.sender.as_fd(), team.file.as_fd()];
        send(team.sender.as_fd(), &[OBJECT, 0, 0, 0, 0, 0], &parts)?;
        Ok(team)
    }

    /// Of a descriptor of another process's object.
    pub(super) fn of(socket: OwnedFd) -> Result<Self, CUresult> {
        let is_of_its_kind = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
            && sockopt::socket_type(&socket) == Ok(SocketType::SEQPACKET);
        if !is_of_its_kind {
            return Err(CUresult::INVALID_VALUE);
        }
        let _alone = lock(&LOOKING);
        let parts = object_in(&socket);
        let Some([sender, file]) = parts else {
            // It is the program's.
            look_from(&socket, -1)?;
            return Err(CUresult::INVALID_VALUE);
        };
        let page = page_of(&file)?;
        Ok(Self {
            socket,
            sender,
            page,
            file,
        })
    }

    fn number(&self, number: Number) -> &AtomicU64 {
        let place = self.page.base() + 8 * number as u64;
        // SAFETY: inside the page, aligned, and there for as long as this value.
        unsafe { AtomicU64::from_ptr(place as *mut u64) }
    }

    pub(super) fn devices(&self) -> u32 {
        u32::try_from(self.number(Number::Devices).load(SeqCst)).unwrap_or(0)
    }

    pub(super) fn size(&self) -> u64 {
        self.number(Number::Size).load(SeqCst)
    }

    pub(super) fn handle_types(&self) -> u64 {
        self.number(Number::HandleTypes).load(SeqCst)
    }

    /// Which devices are in it, by their numbers on the machine.
    pub(super) fn members(&self) -> impl Iterator<Item = u64> + Clone + use<> {
        let members = self.number(Number::Members).load(SeqCst);
        (0..u64::BITS.into()).filter(move |device| members >> device & 1 != 0)
    }

    /// Whether all are in it that will be.
    pub(super) fn is_complete(&self) -> bool {
        self.members().count() == self.devices() as usize
    }

    /// Counts what is bound and what no longer.
    pub(super) fn generation(&self) -> u64 {
        self.number(Number::Generation).load(SeqCst)
    }

    /// A copy of the descriptor.
    pub(super) fn descriptor(&self) -> Result<OwnedFd, CUresult> {
        self.socket.try_clone().map_err(|_| CUresult::OUT_OF_MEMORY)
    }

    fn look(&self) -> Result<Looking<'_>, CUresult> {
        let alone = lock(&LOOKING);
        retry_on_intr(|| fcntl_lock(&self.file, FlockOperation::LockExclusive)).map_err(refused)?;
        Ok(Looking {
            team: self,
            met: Vec::new(),
            _alone: alone,
        })
    }

    /// One device more.
    pub(super) fn add(&self, device: u64) -> Result<(), CUresult> {
        let _looking = self.look()?;
        let is_new = !self.members().any(|member| member == device);
        if !is_new || self.is_complete() || device >= u64::BITS.into() {
            return Err(CUresult::INVALID_VALUE);
        }
        self.number(Number::Members).fetch_or(1 << device, SeqCst);
        Ok(())
    }

    /// What is bound, with what `make` makes of each one's file, and the generation that it is of.
    pub(super) fn bindings<T>(
        &self,
        make: impl FnMut(&Binding, OwnedFd) -> T,
    ) -> Result<(u64, Vec<(Binding, T)>), CUresult> {
        let mut looking = self.look()?;
        Ok((self.generation(), looking.bindings(make)?))
    }

    /// Binds memory of a file; its name.
    pub(super) fn bind(&self, wanted: Binding, file: BorrowedFd<'_>) -> Result<u64, CUresult> {
        let mut looking = self.look()?;
        let known = looking.bindings(|_, _| ())?;
        let meets = |known: &Binding| {
            known.device == wanted.device
                && known.offset < wanted.end()
                && wanted.offset < known.end()
        };
        if known.iter().any(|(known, _)| meets(known)) {
            return Err(CUresult::INVALID_VALUE);
        }
        if known.len() >= MOST_BINDINGS {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        let name = self.number(Number::LastName).fetch_add(1, SeqCst) + 1;
        let Binding {
            device,
            offset,
            size,
            start,
            ..
        } = wanted;
        let message = [BINDING, name, device, offset, size, start];
        send(self.sender.as_fd(), &message, &[file])?;
        self.number(Number::Bindings).fetch_add(1, SeqCst);
        self.number(Number::Generation).fetch_add(1, SeqCst);
        Ok(name)
    }

    /// Takes out the bindings that are `chosen`; whether there were any.
    pub(super) fn unbind(&self, chosen: impl Fn(&Binding) -> bool) -> Result<bool, CUresult> {
        let mut looking = self.look()?;
        let known = looking.bindings(|_, _| ())?;
        if !known.iter().any(|(binding, _)| chosen(binding)) {
            return Ok(false);
        }
        for _ in 0..=known.len() {
            let Some((message, files)) = receive(self.socket.as_fd(), RecvFlags::empty())? else {
                break;
            };
            let goes = binding(&message).is_some_and(|binding| chosen(&binding));
            if goes {
                self.number(Number::Bindings).fetch_sub(1, SeqCst);
            } else {
                let parts: Vec<_> = files.iter().map(AsFd::as_fd).collect();
                send(self.sender.as_fd(), &message, &parts)?;
                looking.met.extend(files);
            }
        }
        self.number(Number::Generation).fetch_add(1, SeqCst);
        Ok(true)
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        // Closing the page's file gives back what lock of it the process has, so nobody may have one.
        let _alone = lock(&LOOKING);
        let Ok(nothing) = rustix::fs::memfd_create("none", rustix::fs::MemfdFlags::CLOEXEC) else {
            return;
        };
        drop(std::mem::replace(&mut self.file, nothing));
    }
}

impl Looking<'_> {
    /// What is bound, with what `make` makes of each one's file.
    fn bindings<T>(
        &mut self,
        mut make: impl FnMut(&Binding, OwnedFd) -> T,
    ) -> Result<Vec<(Binding, T)>, CUresult> {
        let mut found: Vec<(Binding, T)> = Vec::new();
        for _ in 0..ATTEMPTS {
            look_from(&self.team.socket, 0)?;
            while let Some((message, files)) = peek(&self.team.socket)? {
                let mut files = files.into_iter();
                let first = files.next();
                match (binding(&message), first) {
                    (Some(binding), Some(file)) => {
                        let is_known = found.iter().any(|(known, _)| known.name == binding.name);
                        if !is_known {
                            found.push((binding, make(&binding, file)));
                        }
                    }
                    (_, first) => self.met.extend(first),
                }
                self.met.extend(files);
            }
            if found.len() as u64 >= self.team.number(Number::Bindings).load(SeqCst) {
                break;
            }
            wait();
        }
        Ok(found)
    }
}

fn binding(message: &Message) -> Option<Binding> {
    let [kind, name, device, offset, size, start] = *message;
    let binding = Binding {
        name,
        device,
        offset,
        size,
        start,
    };
    (kind == BINDING && binding.is_sound()).then_some(binding)
}

/// The page of a file that has one, and keeps it.
fn page_of(file: &OwnedFd) -> Result<Mapping, CUresult> {
    let length = rustix::fs::fstat(file).map_err(|_| CUresult::INVALID_VALUE)?;
    let seals = rustix::fs::fcntl_get_seals(file).map_err(|_| CUresult::INVALID_VALUE)?;
    if length.st_size != PAGE_BYTES as i64 || !seals.contains(SealFlags::SHRINK) {
        return Err(CUresult::INVALID_VALUE);
    }
    let page = Mapping::reserve(PAGE_BYTES, PAGE_BYTES)?;
    page.place((page.base(), PAGE_BYTES), file, 0)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::MemfdFlags;

    fn file() -> OwnedFd {
        rustix::fs::memfd_create("memory", MemfdFlags::CLOEXEC).expect("a file")
    }

    fn at(device: u64, offset: u64) -> Binding {
        Binding {
            name: 0,
            device,
            offset,
            size: 64,
            start: 128,
        }
    }

    #[test]
    fn who_has_the_descriptor_has_all_of_it() {
        let team = Team::new(2, 1024, 1).expect("an object");
        let other = Team::of(team.descriptor().expect("a copy")).expect("the same");
        assert_eq!(
            (other.devices(), other.size(), other.handle_types()),
            (2, 1024, 1)
        );
        team.add(3).expect("one");
        assert!(!other.is_complete());
        assert_eq!(other.add(3), Err(CUresult::INVALID_VALUE), "twice");
        other.add(5).expect("another");
        assert!(team.is_complete());
        assert_eq!(team.add(6), Err(CUresult::INVALID_VALUE), "too many");
        assert_eq!(team.members().collect::<Vec<_>>(), [3, 5]);
        let name = other.bind(at(3, 0), file().as_fd()).expect("bound");
        assert_eq!(
            team.bind(at(3, 32), file().as_fd()),
            Err(CUresult::INVALID_VALUE)
        );
        team.bind(at(5, 32), file().as_fd())
            .expect("another device's");
        team.bind(at(3, 64), file().as_fd()).expect("behind it");
        let (generation, bindings) = team.bindings(|_, _| ()).expect("they are there");
        let found: Vec<_> = bindings
            .iter()
            .map(|(known, _)| (known.device, known.offset))
            .collect();
        assert_eq!((generation, found), (3, vec![(3, 0), (5, 32), (3, 64)]));
        // Also for who comes later.
        assert_eq!(team.unbind(|known| known.name == name), Ok(true));
        assert_eq!(other.unbind(|known| known.name == name), Ok(false));
        let later = Team::of(other.descriptor().expect("a copy")).expect("the same");
        drop((team, other));
        let (generation, bindings) = later.bindings(|_, _| ()).expect("they are there");
        let found: Vec<_> = bindings
            .iter()
            .map(|(known, _)| (known.device, known.offset))
            .collect();
        assert_eq!((generation, found), (4, vec![(5, 32), (3, 64)]));
        later.bind(at(3, 0), file().as_fd()).expect("free again");
    }

    #[test]
    fn what_is_not_bound_any_more_is_closed() {
        let team = Team::new(1, 1024, 1).expect("an object");
        team.add(0).expect("one");
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let end = |reader: &OwnedFd| rustix::io::read(reader, &mut [0; 1]);
        rustix::io::ioctl_fionbio(&reader, true).expect("not to wait");
        team.bind(at(0, 0), writer.as_fd()).expect("bound");
        drop(writer);
        assert_eq!(end(&reader), Err(Errno::AGAIN), "it is bound");
        team.unbind(|_| true).expect("unbound");
        assert_eq!(end(&reader), Ok(0));
    }

    #[test]
    fn what_goes_with_the_last_descriptor() {
        let team = Team::new(1, 1024, 1).expect("an object");
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        team.bind(at(0, 0), writer.as_fd()).expect("bound");
        drop((writer, team));
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0));
    }

    #[test]
    fn there_is_no_room_for_any_number_of_bindings() {
        let team = Team::new(1, 1 << 40, 1).expect("an object");
        let memory = file();
        let full =
            (0..100_000).find_map(|number| team.bind(at(0, number * 64), memory.as_fd()).err());
        assert_eq!(full, Some(CUresult::OUT_OF_MEMORY));
        assert_eq!(
            team.unbind(|known| known.offset == 0),
            Ok(true),
            "and it can be made"
        );
        team.bind(at(0, 0), memory.as_fd()).expect("room for one");
    }

    #[test]
    fn other_sockets_are_refused() {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let pair =
            || rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).expect("a pair");
        assert!(Team::of(pair().0).is_err(), "nothing in it");
        for (message, files) in [
            ([OBJECT, 0, 0, 0, 0, 0], vec![]),
            ([OBJECT, 0, 0, 0, 0, 0], vec![file(), file()]),
            (
                [0; WORDS],
                vec![file(), sealed_file(PAGE_BYTES).expect("a page")],
            ),
        ] {
            let (socket, sender) = pair();
            let parts: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            send(sender.as_fd(), &message, &parts).expect("sent");
            assert!(Team::of(socket).is_err(), "{message:?}");
        }
    }

    #[test]
    fn bindings_that_end_nowhere_are_no_bindings() {
        for wrong in [
            [BINDING, 1, 0, 0, 0, 0],
            [BINDING, 1, 0, u64::MAX, 64, 0],
            [BINDING, 1, 0, 0, 64, u64::MAX],
            [BINDING, 1, 0, 0, u64::MAX, 0],
            [OBJECT, 1, 0, 0, 64, 0],
        ] {
            assert_eq!(binding(&wrong), None, "{wrong:?}");
        }
        assert!(binding(&[BINDING, 1, 0, 0, 64, 0]).is_some());
    }
}
