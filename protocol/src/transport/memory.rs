//! A connection inside one process, with seeded faults, for tests.
//!
//! What: [`pair`] makes two connected ends. Each direction is a bounded queue of bytes that become visible in
//! pieces and after delays that a seed decides, and that can be cut after so many bytes. Rule: the same seed
//! gives the same pieces and the same delays; what a thread's timing makes of them is its own. The second end may have a [`Card`], which takes memory of devices,
//! and reads into it what the first end offers, as one for RDMA does.
//!
//! # Safety
//! Memory that is lent to a card, or offered, is what its lender vouched for; such a device's memory is this process's own.
#![expect(
    unsafe_code,
    reason = "a card reads what is lent to it, and writes a device's memory"
)]

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::endpoint::{Endpoint, Interest, Span};
use super::rdma::RdmaError;
use super::{Connection, DeviceMemory, Patience, RemoteMemory};

/// Bytes that one direction holds before its sender has to wait.
const CAPACITY_BYTES: usize = 1024 * 1024;

/// What goes wrong on a connection in memory.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Decides delays and pieces. Print it when a test fails.
    pub seed: u64,
    /// Bytes become visible after a delay up to this.
    pub max_delay: Duration,
    /// Bytes become visible in pieces up to so many; 0: as they were sent.
    pub max_piece_bytes: usize,
    /// The connection is lost, both ways, after the first end has sent so many bytes.
    pub cut_after_sent_by_first: Option<u64>,
    /// The connection is lost, both ways, after the second end has sent so many bytes.
    pub cut_after_sent_by_second: Option<u64>,
    /// How long each end may be silent.
    pub patience: Patience,
    /// The card of the second end.
    pub card: Card,
}

/// A card that reads and writes memory of devices, if that is this process's own.
#[derive(Debug, Clone, Default)]
pub struct Card {
    /// How often it takes memory before it refuses: 0, never.
    pub takes: u64,
    /// It has not done with what is lent, though all was sent, nor with what it reads, as long as this is set.
    pub is_busy: Arc<AtomicBool>,
}

/// Something that a card reads of what the other end offers.
struct Read {
    number: u64,
    destination: u64,
    from: RemoteMemory,
    is_done: bool,
}

/// Two connected ends.
#[must_use]
pub fn pair(faults: &Faults) -> (Connection, Connection) {
    let link = Arc::new(Link::new(faults));
    let end = |side: usize| {
        let endpoint = End {
            link: Arc::clone(&link),
            side,
        };
        let description = format!("memory (seed {})", faults.seed);
        Connection::over(endpoint, faults.patience.clone(), description)
    };
    (end(0), end(1))
}

struct Link {
    state: Mutex<State>,
    changed: Condvar,
    max_delay: Duration,
    max_piece_bytes: usize,
    card: Card,
}

struct State {
    /// `directions[side]` is what `side` sends.
    directions: [Direction; 2],
    is_over: bool,
    /// What is lent to the card: its number, where it is, how long it is.
    lent: Vec<(u64, u64, usize)>,
    given: u64,
    /// What the first end offers, by the offers' numbers.
    offered: Vec<(u64, RemoteMemory)>,
    offers: u64,
    reads: Vec<Read>,
    /// A read has failed, and all later ones with it.
    reads_nothing: bool,
}

struct Direction {
    pieces: VecDeque<Piece>,
    queued_bytes: usize,
    left_until_cut: Option<u64>,
    random: SplitMix,
    last_visible_at: Instant,
}

struct Piece {
    bytes: Vec<u8>,
    taken: usize,
    visible_at: Instant,
}

/// A small generator of random numbers (splitmix64): the same seed, the same numbers.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }
}

impl Link {
    fn new(faults: &Faults) -> Self {
        let direction = |salt: u64, cut| Direction {
            pieces: VecDeque::new(),
            queued_bytes: 0,
            left_until_cut: cut,
            random: SplitMix(faults.seed ^ salt),
            last_visible_at: Instant::now(),
        };
        Self {
            state: Mutex::new(State {
                directions: [
                    direction(0, faults.cut_after_sent_by_first),
                    direction(u64::MAX, faults.cut_after_sent_by_second),
                ],
                is_over: false,
                lent: Vec::new(),
                given: 0,
                offered: Vec::new(),
                offers: 0,
                reads: Vec::new(),
                reads_nothing: false,
            }),
            changed: Condvar::new(),
            max_delay: faults.max_delay,
            max_piece_bytes: faults.max_piece_bytes,
            card: faults.card.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Direction {
    /// Queues some of these bytes; how many.
    fn queue(&mut self, bytes: &[u8], link: &Link) -> usize {
        let room = CAPACITY_BYTES.saturating_sub(self.queued_bytes);
        let until_cut = self.left_until_cut.unwrap_or(u64::MAX);
        let until_cut = usize::try_from(until_cut).unwrap_or(usize::MAX);
        let mut count = bytes.len().min(room).min(until_cut);
        if link.max_piece_bytes > 0 {
            let piece = 1 + self.random.below(link.max_piece_bytes as u64);
            count = count.min(usize::try_from(piece).unwrap_or(usize::MAX));
        }
        if count == 0 {
            return 0;
        }
        let delay_ns = u64::try_from(link.max_delay.as_nanos()).unwrap_or(u64::MAX);
        let delay = Duration::from_nanos(self.random.below(delay_ns));
        let visible_at = (Instant::now() + delay).max(self.last_visible_at);
        self.last_visible_at = visible_at;
        self.queued_bytes += count;
        self.left_until_cut = self.left_until_cut.map(|left| left - count as u64);
        self.pieces.push_back(Piece {
            bytes: bytes[..count].to_vec(),
            taken: 0,
            visible_at,
        });
        count
    }

    /// Takes visible bytes into `span`; how many.
    fn take(&mut self, mut span: Span, now: Instant) -> usize {
        let mut total = 0;
        while span.length() > 0
            && let Some(piece) = self.pieces.front_mut()
            && piece.visible_at <= now
        {
            let count = span.fill(&piece.bytes[piece.taken..]);
            piece.taken += count;
            total += count;
            span = span.from(count);
            if piece.taken == piece.bytes.len() {
                self.pieces.pop_front();
            }
        }
        self.queued_bytes -= total;
        total
    }

    fn visible_at(&self) -> Option<Instant> {
        self.pieces.front().map(|piece| piece.visible_at)
    }
}

/// Whether a read takes nothing but what is offered.
fn is_inside(read: &RemoteMemory, offer: &RemoteMemory) -> bool {
    let offset = read.address.checked_sub(offer.address);
    let end = offset.and_then(|offset| offset.checked_add(read.length as u64));
    read.key == offer.key && end.is_some_and(|end| end <= offer.length as u64)
}

struct End {
    link: Arc<Link>,
    side: usize,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Endpoint for End {
    fn send_some(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.link.state();
        if state.is_over {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let direction = &mut state.directions[self.side];
        let mut sent = 0;
        for piece in pieces {
            let count = direction.queue(piece, &self.link);
            sent += count;
            if count < piece.len() {
                break;
            }
        }
        if direction.left_until_cut == Some(0) {
            state.is_over = true;
        }
        self.link.changed.notify_all();
        match sent {
            0 if state.is_over => Err(io::ErrorKind::BrokenPipe.into()),
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(sent),
        }
    }

    unsafe fn lend_device(&self, memory: &DeviceMemory<'_>) -> Result<u64, RdmaError> {
        let mut state = self.link.state();
        if self.side == 0 || state.given >= self.link.card.takes {
            return Err(RdmaError::TooMuchLent);
        }
        state.given += 1;
        let given = state.given;
        state.lent.push((given, memory.address, memory.length));
        Ok(given)
    }

    fn send_device(&self, loan: u64, offset: u64, length: usize) -> io::Result<usize> {
        let lent = self.link.state().lent.clone();
        let (_, start, whole) = *lent
            .iter()
            .find(|(number, ..)| *number == loan)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if offset > whole || length > whole - offset {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let source = std::ptr::with_exposed_provenance::<u8>(start as usize + offset);
        let mut bytes = vec![0; length];
        // SAFETY: inside of what is lent, which is this process's own memory.
        unsafe { source.copy_to_nonoverlapping(bytes.as_mut_ptr(), length) };
        self.send_some(&[IoSlice::new(&bytes)])
    }

    fn take_back_device(&self, loan: u64) {
        while self.link.card.is_busy.load(Relaxed) && !self.link.state().is_over {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.link
            .state()
            .lent
            .retain(|(number, ..)| *number != loan);
    }

    fn has_reads(&self) -> bool {
        self.link.card.takes > 0
    }

    unsafe fn offer(&self, start: *const u8, length: usize) -> Option<(u64, RemoteMemory)> {
        if self.side != 0 || !self.has_reads() {
            return None;
        }
        let mut state = self.link.state();
        state.offers += 1;
        let number = state.offers;
        let memory = RemoteMemory {
            address: start.expose_provenance() as u64,
            length,
            // Not the number, and never the same again.
            key: u32::try_from(number).unwrap_or(0).wrapping_mul(0x9E37_79B1),
        };
        state.offered.push((number, memory));
        Some((number, memory))
    }

    fn withdraw(&self, offer: u64) {
        self.link
            .state()
            .offered
            .retain(|(number, _)| *number != offer);
    }

    unsafe fn read(&self, memory: &DeviceMemory<'_>, from: RemoteMemory) -> Result<u64, RdmaError> {
        let mut state = self.link.state();
        if self.side == 0 || state.given >= self.link.card.takes {
            return Err(RdmaError::TooMuchLent);
        }
        if memory.length != from.length {
            return Err(RdmaError::Misuse("a read into memory of another size"));
        }
        state.given += 1;
        let number = state.given;
        state.reads.push(Read {
            number,
            destination: memory.address,
            from,
            is_done: false,
        });
        Ok(number)
    }

    fn outcome(&self, read: u64) -> Option<Result<(), RdmaError>> {
        if self.link.card.is_busy.load(Relaxed) {
            return None;
        }
        let mut state = self.link.state();
        let State {
            reads,
            offered,
            reads_nothing,
            ..
        } = &mut *state;
        let Some(read) = reads.iter_mut().find(|other| other.number == read) else {
            return Some(Err(RdmaError::Misuse("a read that was not begun")));
        };
        let is_open = offered
            .iter()
            .any(|(_, offer)| is_inside(&read.from, offer));
        if !read.is_done && (*reads_nothing || !is_open) {
            *reads_nothing = true;
            return Some(Err(RdmaError::Reading("remote access error".to_owned())));
        }
        if !std::mem::replace(&mut read.is_done, true) {
            let source = std::ptr::with_exposed_provenance::<u8>(read.from.address as usize);
            let place = std::ptr::with_exposed_provenance_mut::<u8>(read.destination as usize);
            // SAFETY: the source is inside of what is offered, which stays while this lock is held; the destination is the card's to write until the read is dropped.
            unsafe { source.copy_to(place, read.from.length) };
        }
        Some(Ok(()))
    }

    fn end_read(&self, read: u64) {
        self.link.state().reads.retain(|other| other.number != read);
    }

    fn receive_some(&self, spans: [Span; 2]) -> io::Result<usize> {
        let mut state = self.link.state();
        let now = Instant::now();
        let is_over = state.is_over;
        let direction = &mut state.directions[1 - self.side];
        let count = spans.map(|span| direction.take(span, now)).iter().sum();
        if count > 0 {
            self.link.changed.notify_all();
            return Ok(count);
        }
        if is_over && direction.pieces.is_empty() {
            return Ok(0);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn wait(&self, interest: Interest, timeout: Option<Duration>) -> io::Result<bool> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.link.state();
        loop {
            let now = Instant::now();
            let incoming = state.directions[1 - self.side].visible_at();
            let is_ready = match interest {
                Interest::Read => incoming.map_or(state.is_over, |visible_at| visible_at <= now),
                Interest::Write => {
                    state.is_over || state.directions[self.side].queued_bytes < CAPACITY_BYTES
                }
            };
            if is_ready {
                return Ok(true);
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(false);
            }
            let next = match interest {
                Interest::Read => incoming,
                Interest::Write => None,
            };
            let until = [deadline, next].into_iter().flatten().min();
            let pause = until.map_or(Duration::from_secs(1), |until| {
                until.saturating_duration_since(now)
            });
            state = self
                .link
                .changed
                .wait_timeout(state, pause)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn shutdown(&self) {
        self.link.state().is_over = true;
        self.link.changed.notify_all();
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn unanswered_for(&self) -> Option<Duration> {
        None
    }
}
