//! What this worker takes of its lease's slices.
//!
//! *What:* [`Accounts`] is the worker's seat at the lease's [ledger], and its own book of what it holds on each device. *Rules:*
//! everything is charged before the driver makes it, and given back after the driver has it back; a session without a ledger is
//! not limited.
//!
//! | what | charged |
//! |---|---|
//! | memory mapped in a window | its size |
//! | memory that the driver places | its size, in whole chunks; small pieces share chunks |
//! | an array | its bytes in tiles of 64 bytes by 8 rows, in whole chunks as the above |
//! | a context | what the order says that one takes, or what is assumed for the kind of device: with its stacks, buffers and code |
//! | what the software GPU makes beside (variables of modules) | what its driver reports beyond the other three, after each module, and twice a second |
//!
//! NVIDIA's driver tells of no process what it has taken: a context's figure has a margin for that, and what it makes beyond it (large modules, deep
//! stacks, large heaps of device code) is not charged.
//!
//! *Without room* a call is answered NOT_READY, and the client asks again, as long as memory of other processes is leaving ([`LEAVING_PATIENCE`]), or the
//! other programs of the lease have not yet given back what they hold idle ([`RECALL_PATIENCE`]); after that OUT_OF_MEMORY. No executor waits, but for a context, whose call is made once.
//!
//! *A checkpointed session* is charged nothing: what it had is taken again before it is restored.
//!
//! *Cost of a mapping:* the ledger's, and two uncontended locks.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, OccupiedEntry};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use driver_api::Driver;
use driver_api::result::CUresult;
use driver_api::soft_usage::TAKEN_MIB_ATTRIBUTE;
use driver_api::wire::{RECALL_STREAM, request};
use protocol::hello::{DeviceKind, RefusalCode, Refused, WorkerOrder, refusal};
use protocol::limits::HEARTBEAT_INTERVAL;

use super::call::{Call, CallError};
use super::context::attribute;
use super::end::lock;
use super::session::Session;
use crate::ledger::{self, CHUNK_BYTES, Charge, Ledger, Refusal, Seat};

/// How long memory that is leaving is waited for.
const LEAVING_PATIENCE: Duration = Duration::from_secs(10);

/// How long the other programs of the lease have to give back what they hold idle: one that is stopped does not.
const RECALL_PATIENCE: Duration = Duration::from_secs(2);

/// How long a driver may take to give out what a process had that has just ended.
const DRIVER_PATIENCE: Duration = Duration::from_millis(300);

/// A client that has not asked for so long does not wait any more.
const FORGOTTEN: Duration = Duration::from_secs(1);

/// How often a wait here looks.
const LOOK: Duration = Duration::from_millis(1);

/// Most threads of a client that are told apart while they wait.
const MAX_WAITING: usize = 4096;

/// Who waits without being a thread of the client.
const NOBODY: u32 = 0;

/// What is larger gets chunks of its own from a driver.
const MOST_SMALL: u64 = 1 << 20;

/// How a driver rounds small pieces.
const SMALL_GRANULARITY: u64 = 512;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// Memory mapped in a window, or anything else that is known to the byte.
    Exact(u64),
    /// Memory that the driver places.
    Placed(u64),
}

/// What this worker holds on a device.
#[derive(Debug, Default)]
struct Book {
    /// Bytes charged for what was asked for.
    made: u64,
    /// Bytes of small pieces that the driver has placed; their chunks are in `made`.
    small: u64,
    /// Bytes charged for what the driver has made beside.
    beside: u64,
    /// How many pieces are being made or given back now: what the driver reports is not to be compared.
    moving: u32,
    /// The session is checkpointed: what it was charged, and will be again.
    suspended: Option<u64>,
}

impl Book {
    /// Adds something; how many more bytes that takes.
    fn add(&mut self, made: Made) -> u64 {
        match made {
            Made::Exact(bytes) => bytes,
            Made::Placed(bytes) if bytes > MOST_SMALL => chunks(bytes),
            Made::Placed(bytes) => {
                let before = chunks(self.small);
                self.small += bytes.next_multiple_of(SMALL_GRANULARITY);
                chunks(self.small) - before
            }
        }
    }

    /// Takes it out again; how many bytes fewer that takes.
    fn remove(&mut self, made: Made) -> u64 {
        match made {
            Made::Exact(bytes) => bytes,
            Made::Placed(bytes) if bytes > MOST_SMALL => chunks(bytes),
            Made::Placed(bytes) => {
                let before = chunks(self.small);
                let gone = bytes.next_multiple_of(SMALL_GRANULARITY);
                self.small = self.small.saturating_sub(gone);
                before - chunks(self.small)
            }
        }
    }
}

/// Whole chunks. More than any slice stays more than any slice.
fn chunks(bytes: u64) -> u64 {
    bytes
        .checked_next_multiple_of(CHUNK_BYTES)
        .unwrap_or(u64::MAX)
}

/// A device of the session.
#[derive(Debug, Default)]
struct Device {
    context_bytes: u64,
    book: Mutex<Book>,
}

/// A thread of the client that finds no room.
#[derive(Debug)]
struct Want {
    /// Its call for idle credit.
    call: u32,
    since: Instant,
    last_asked: Instant,
    /// The others had answered when it asked last.
    is_answered: bool,
}

/// The worker's accounts.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    seat: Option<Seat>,
    devices: Vec<Device>,
    wants: Mutex<HashMap<u32, Want>>,
    wipes: bool,
    /// Whether the driver tells what this process has taken.
    is_told: bool,
    /// The driver stands still, or will: it is asked for nothing.
    is_held: AtomicBool,
    /// The calls for idle credit that there were when the worker sat down.
    first_call: u32,
}

/// Something that is being made: dropping it gives it back.
#[must_use = "dropping it gives the bytes back"]
pub(super) struct Taken<'a> {
    accounts: &'a Accounts,
    device: usize,
    made: Made,
    is_made: bool,
}

impl Taken<'_> {
    /// It has been made.
    pub(super) fn commit(mut self) {
        self.is_made = true;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        match self.is_made {
            true => self.accounts.moved(self.device),
            false => self.accounts.give_back(self.device, self.made, false),
        }
    }
}

impl Accounts {
    /// The accounts of a session; nothing is limited where the order has no ledger.
    ///
    /// # Errors
    /// The ledger is none, or not this lease's, or has no room for another worker, or for its first context.
    pub(crate) fn open(order: &WorkerOrder, ledger: Option<OwnedFd>) -> Result<Self, Refused> {
        let internal = |text: String| refusal(RefusalCode::Internal, text);
        let Some(lease) = &order.lease else {
            return Ok(Self::default());
        };
        let kind = order.device_kind();
        let devices = lease.slices.iter().map(|slice| Device {
            context_bytes: ledger::context_bytes(kind, slice.context_memory),
            book: Mutex::default(),
        });
        let mut accounts = Self {
            devices: devices.collect(),
            wipes: lease.wipe.unwrap_or(kind == DeviceKind::Nvidia),
            is_told: kind == DeviceKind::Software,
            ..Self::default()
        };
        let Some(ledger) = ledger else {
            return Ok(accounts);
        };
        let ledger = Ledger::open(ledger).map_err(|error| internal(error.to_string()))?;
        // The ledger's limits are what other workers may have written there.
        let has: Vec<u64> = (0..ledger.slices())
            .map(|slice| ledger.limit(slice))
            .collect();
        let wanted: Vec<u64> = lease.slices.iter().map(|slice| slice.memory).collect();
        if has != wanted {
            return Err(internal(format!(
                "a ledger for slices of {has:?} bytes was passed for a lease of {wanted:?}"
            )));
        }
        let ledger = Arc::new(ledger);
        accounts.first_call = ledger.wanted();
        let seat = ledger.sit(order.session);
        accounts.seat = Some(seat.map_err(|error| internal(error.to_string()))?);
        accounts.admit()?;
        Ok(accounts)
    }

    /// Checks that each slice can hold a context, and takes the first device's, which the start makes.
    fn admit(&self) -> Result<(), Refused> {
        let Some(seat) = &self.seat else {
            return Ok(());
        };
        for (slice, device) in self.devices.iter().enumerate() {
            let (limit, least) = (
                seat.ledger().limit(slice),
                device.context_bytes.saturating_add(CHUNK_BYTES),
            );
            if limit < least {
                let message = format!(
                    "a slice of {} MiB is too small: with {} MiB for the driver's context, the least that works is {} MiB",
                    mib(limit),
                    mib(device.context_bytes),
                    mib(least)
                );
                return Err(refusal(RefusalCode::TooSmall, message));
            }
        }
        self.make_context(0)
            .map_err(|_| self.no_room_for_context(0))
    }

    fn no_room_for_context(&self, device: usize) -> Refused {
        let (limit, used) = self.seat.as_ref().map_or((0, 0), |seat| {
            (seat.ledger().limit(device), seat.ledger().used(device))
        });
        let needed = self
            .devices
            .get(device)
            .map_or(0, |device| device.context_bytes);
        let message = format!(
            "the lease's other programs hold {} of its {} MiB, and this one needs {} MiB for the driver's context: end one of them, or ask for {} MiB",
            mib(used),
            mib(limit),
            mib(needed),
            mib(used.saturating_add(needed).saturating_add(CHUNK_BYTES))
        );
        refusal(RefusalCode::TooSmall, message)
    }

    /// The start has made contexts on these devices, and not on the first if it is not among them.
    ///
    /// # Errors
    /// There is no room for one of them.
    pub(crate) fn started_with(&self, retained: &[i32]) -> Result<(), Refused> {
        if !retained.contains(&0) {
            self.context_is_gone(0);
        }
        for device in retained.iter().filter(|device| **device > 0) {
            let refused = |_| self.no_room_for_context(device.cast_unsigned() as usize);
            self.make_context(*device).map_err(refused)?;
        }
        Ok(())
    }

    /// Whether the session shares a ledger.
    pub(super) fn are_shared(&self) -> bool {
        self.seat.is_some()
    }

    /// Whether fresh memory is filled with zeros.
    pub(super) fn wipes(&self) -> bool {
        self.wipes
    }

    fn device(&self, ordinal: i32) -> Option<(&Seat, usize, &Device)> {
        let index = usize::try_from(ordinal).ok()?;
        Some((self.seat.as_ref()?, index, self.devices.get(index)?))
    }

    /// Takes what is about to be made for a thread of the client.
    ///
    /// # Errors
    /// NOT_READY: no room, but it is worth asking again soon. OUT_OF_MEMORY: no room.
    pub(super) fn take(
        &self,
        ordinal: i32,
        made: Made,
        thread: u32,
    ) -> Result<Option<Taken<'_>>, CUresult> {
        let Some((seat, device, account)) = self.device(ordinal) else {
            return Ok(None);
        };
        let mut book = lock(&account.book);
        if book.suspended.is_some() {
            // What is charged then is what was before.
            return Err(CUresult::NOT_READY);
        }
        let bytes = book.add(made);
        match seat.reserve(device, bytes) {
            Ok(charge) => charge.commit(),
            Err(refused) => {
                book.remove(made);
                drop(book);
                return Err(self.refuse(seat, thread, refused));
            }
        }
        book.made += bytes;
        book.moving += 1;
        drop(book);
        Ok(Some(Taken {
            accounts: self,
            device,
            made,
            is_made: false,
        }))
    }

    /// What a thread without room is told.
    fn refuse(&self, seat: &Seat, thread: u32, refused: Refusal) -> CUresult {
        match refused {
            Refusal::NoRoom | Refusal::Leaving(_) => {}
            Refusal::TooLarge => return CUresult::OUT_OF_MEMORY,
            Refusal::HeldUp => {
                tracing::warn!("{refused}");
                return CUresult::OUT_OF_MEMORY;
            }
        }
        let mut wants = lock(&self.wants);
        let mut asked = asked(&mut wants, thread, || seat.want());
        let want = asked.get_mut();
        let waited = want.since.elapsed();
        let is_leaving = matches!(refused, Refusal::Leaving(_)) && waited < LEAVING_PATIENCE;
        // What the others had given back before this look was seen by it.
        let was_answered = want.is_answered;
        want.is_answered |= waited >= RECALL_PATIENCE || seat.have_answered(want.call);
        if is_leaving || !was_answered {
            return CUresult::NOT_READY;
        }
        asked.remove();
        CUresult::OUT_OF_MEMORY
    }

    /// What a thread is told that has room in the slice, when the driver has none: what a process had that has just ended comes back to the
    /// driver a little later than to the ledger.
    pub(super) fn driver_refused(&self, thread: u32, error: CUresult) -> CUresult {
        let Some(seat) = self
            .seat
            .as_ref()
            .filter(|_| error == CUresult::OUT_OF_MEMORY)
        else {
            return error;
        };
        let mut wants = lock(&self.wants);
        let asked = asked(&mut wants, thread, || seat.want());
        if asked.get().since.elapsed() < DRIVER_PATIENCE {
            return CUresult::NOT_READY;
        }
        asked.remove();
        error
    }

    /// A thread has got what it asked for.
    pub(super) fn granted(&self, thread: u32) {
        if self.seat.is_some() {
            lock(&self.wants).remove(&thread);
        }
    }

    /// Takes what is about to be made, and waits for room here.
    fn take_waiting(&self, ordinal: i32, made: Made) -> Result<Option<Taken<'_>>, CUresult> {
        loop {
            match self.take(ordinal, made, NOBODY) {
                Err(CUresult::NOT_READY) => std::thread::sleep(LOOK),
                result => {
                    self.granted(NOBODY);
                    return result;
                }
            }
        }
    }

    /// A context is about to be made; undone by [`Accounts::context_is_gone`].
    ///
    /// # Errors
    /// OUT_OF_MEMORY.
    pub(super) fn make_context(&self, ordinal: i32) -> Result<(), CUresult> {
        let bytes = self.context_bytes(ordinal);
        if let Some(taken) = self.take_waiting(ordinal, Made::Exact(bytes))? {
            taken.commit();
        }
        Ok(())
    }

    /// A context is gone, or was not made after all.
    pub(super) fn context_is_gone(&self, ordinal: i32) {
        let made = Made::Exact(self.context_bytes(ordinal));
        self.begin_to_give_back(ordinal);
        self.gave_back(ordinal, made, false);
    }

    fn context_bytes(&self, ordinal: i32) -> u64 {
        self.device(ordinal)
            .map_or(0, |(_, _, device)| device.context_bytes)
    }

    /// Memory is there that another worker of the lease was charged for, which is gone. False if it is not charged yet.
    pub(super) fn take_over(&self, ordinal: i32, bytes: u64) -> bool {
        let Some((seat, device, account)) = self.device(ordinal) else {
            return true;
        };
        let mut book = lock(&account.book);
        if book.suspended.is_some() || !seat.take_over(device, bytes) {
            return false;
        }
        book.made += bytes;
        true
    }

    /// What is known to the byte is on its way out.
    pub(super) fn leaves(&self, ordinal: i32, made: Made) {
        if let (Some((seat, device, _)), Made::Exact(bytes)) = (self.device(ordinal), made) {
            seat.leave(device, bytes);
        }
    }

    /// It cannot be given back.
    pub(super) fn stays(&self, ordinal: i32, made: Made) {
        if let Some((seat, device, _)) = self.device(ordinal) {
            if let Made::Exact(bytes) = made {
                seat.stays(device, bytes);
            }
            self.moved(device);
        }
    }

    /// The driver is about to be given something back.
    pub(super) fn begin_to_give_back(&self, ordinal: i32) {
        if let Some((_, _, device)) = self.device(ordinal) {
            lock(&device.book).moving += 1;
        }
    }

    /// The driver has it; `was_leaving` as [`Accounts::leaves`] has said.
    pub(super) fn gave_back(&self, ordinal: i32, made: Made, was_leaving: bool) {
        if let Some((_, device, _)) = self.device(ordinal) {
            self.give_back(device, made, was_leaving);
        }
    }

    fn give_back(&self, device: usize, made: Made, was_leaving: bool) {
        let (Some(seat), Some(account)) = (&self.seat, self.devices.get(device)) else {
            return;
        };
        let mut book = lock(&account.book);
        let bytes = book.remove(made);
        book.made = book.made.saturating_sub(bytes);
        book.moving = book.moving.saturating_sub(1);
        if let Some(suspended) = &mut book.suspended {
            *suspended = suspended.saturating_sub(bytes);
            if was_leaving {
                seat.stays(device, bytes);
            }
            return;
        }
        match (was_leaving, made) {
            (true, Made::Exact(_)) => seat.left(device, bytes),
            _ => seat.release(device, bytes),
        }
    }

    fn moved(&self, device: usize) {
        if let Some(account) = self.devices.get(device) {
            let mut book = lock(&account.book);
            book.moving = book.moving.saturating_sub(1);
        }
    }

    /// Charges what the driver has made beside, where it tells.
    ///
    /// # Errors
    /// OUT_OF_MEMORY: there is no room for it.
    pub(super) fn settle(&self, driver: &Driver, ordinal: i32) -> Result<(), CUresult> {
        let Some((seat, device, account)) = self.device(ordinal).filter(|_| self.is_told) else {
            return Ok(());
        };
        let mut book = lock(&account.book);
        if book.moving > 0 || self.is_held.load(Ordering::Acquire) {
            // The next look will tell.
            return Ok(());
        }
        let Some(taken) = attribute(driver, ordinal, TAKEN_MIB_ATTRIBUTE) else {
            return Ok(());
        };
        let taken = u64::from(taken.max(0).cast_unsigned()) << 20;
        let beside = taken.saturating_sub(book.made);
        if beside > book.beside {
            let reserved = seat.reserve(device, beside - book.beside);
            reserved.map_err(|_| CUresult::OUT_OF_MEMORY)?.commit();
        } else {
            seat.release(device, book.beside - beside);
        }
        book.beside = beside;
        Ok(())
    }

    /// Looks at all devices; whether there is room for everything that the driver has made beside.
    pub(super) fn settle_all(&self, driver: &Driver) -> bool {
        let devices = 0..i32::try_from(self.devices.len()).unwrap_or(i32::MAX);
        let refused = devices.filter(|ordinal| self.settle(driver, *ordinal).is_err());
        refused.count() == 0
    }

    /// The driver is asked for nothing from now on; whoever asks it just now has its answer.
    pub(super) fn hold_looks(&self) {
        self.is_held.store(true, Ordering::Release);
        for device in &self.devices {
            // Whoever asks holds it.
            drop(lock(&device.book));
        }
    }

    /// It is asked again.
    pub(super) fn look_again(&self) {
        self.is_held.store(false, Ordering::Release);
    }

    /// Gives back all that is charged, while the session is checkpointed.
    pub(super) fn suspend(&self) {
        let Some(seat) = &self.seat else {
            return;
        };
        for (device, account) in self.devices.iter().enumerate() {
            let mut book = lock(&account.book);
            let bytes = book.made + book.beside;
            if book.suspended.is_none() {
                seat.release(device, bytes);
                book.suspended = Some(bytes);
            }
        }
    }

    /// Charges all of that again, or nothing. Waits for what is leaving, and for what other programs hold idle.
    ///
    /// # Errors
    /// OUT_OF_MEMORY.
    pub(super) fn resume(&self) -> Result<(), CUresult> {
        let Some(seat) = &self.seat else {
            return Ok(());
        };
        let mut charges = Vec::new();
        for (device, account) in self.devices.iter().enumerate() {
            let suspended = lock(&account.book).suspended;
            if let Some(bytes) = suspended {
                charges.push((device, bytes, self.reserve_waiting(seat, device, bytes)?));
            }
        }
        for (device, bytes, charge) in charges {
            charge.commit();
            let mut book = lock(&self.devices[device].book);
            // What was given back meanwhile is not there any more.
            let left = book.suspended.take().unwrap_or(bytes);
            seat.release(device, bytes.saturating_sub(left));
        }
        Ok(())
    }

    fn reserve_waiting<'a>(
        &self,
        seat: &'a Seat,
        device: usize,
        bytes: u64,
    ) -> Result<Charge<'a>, CUresult> {
        loop {
            match seat.reserve(device, bytes) {
                Ok(charge) => {
                    self.granted(NOBODY);
                    return Ok(charge);
                }
                Err(refused) => match self.refuse(seat, NOBODY, refused) {
                    CUresult::NOT_READY => std::thread::sleep(LOOK),
                    error => return Err(error),
                },
            }
        }
    }

    /// Whether the session is checkpointed.
    fn is_suspended(&self) -> bool {
        let mut devices = self.devices.iter();
        devices.any(|device| lock(&device.book).suspended.is_some())
    }

    /// Free and total memory of a device as the session shall see it.
    pub(super) fn show(&self, ordinal: i32, (free, total): (u64, u64)) -> (u64, u64) {
        let Some((seat, device, _)) = self.device(ordinal) else {
            return (free, total);
        };
        let (limit, used) = (seat.ledger().limit(device), seat.ledger().used(device));
        (limit.saturating_sub(used).min(free), limit)
    }
}

/// A thread asks, again or for the first time. Those that are too many are one.
fn asked(
    wants: &mut HashMap<u32, Want>,
    thread: u32,
    call: impl FnOnce() -> u32,
) -> OccupiedEntry<'_, u32, Want> {
    let now = Instant::now();
    wants.retain(|_, want| now.duration_since(want.last_asked) < FORGOTTEN);
    let is_one_too_many = wants.len() >= MAX_WAITING && !wants.contains_key(&thread);
    let thread = if is_one_too_many { NOBODY } else { thread };
    let mut entry = match wants.entry(thread) {
        Entry::Occupied(entry) => entry,
        Entry::Vacant(entry) => entry.insert_entry(Want {
            call: call(),
            since: now,
            last_asked: now,
            is_answered: false,
        }),
    };
    entry.get_mut().last_asked = now;
    entry
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Asks the client for what it holds idle, when another worker of the lease finds no room; for a session with a seat.
pub(super) fn recall(session: &Session) {
    let accounts = &session.memory.accounts;
    let Some(seat) = &accounts.seat else {
        return;
    };
    let mut seen = accounts.first_call;
    let mut had_room = true;
    while !session.end.is_over() {
        seat.ledger().wait_wanted(seen, HEARTBEAT_INTERVAL / 4);
        // A driver makes memory for a kernel when it is first launched, too.
        let has_room = accounts.settle_all(session.driver);
        if had_room && !has_room {
            tracing::warn!("what the driver has made beside has no room in the lease's slice");
        }
        had_room = has_room;
        let call = seat.ledger().wanted();
        if call == seen {
            continue;
        }
        seen = call;
        // What is suspended holds nothing.
        if session.memory.has_chunks() && !accounts.is_suspended() {
            session
                .outbox
                .completion(RECALL_STREAM, CUresult::SUCCESS, call.into());
            session.outbox.flush();
        } else {
            seat.answer(call);
        }
    }
}

/// The client has given back what it held idle.
pub(crate) fn given_back(
    call: &Call<'_>,
    request: &request::GpurunIdleGivenBack,
) -> Result<(), CallError> {
    if call.session.checkpoints.takes_answer(request.number()) {
        return Ok(());
    }
    let number = u32::try_from(request.number())
        .map_err(|_| CallError::Violation("an answer to a call for memory that there was not"))?;
    if let Some(seat) = &call.session.memory.accounts.seat {
        seat.answer(number);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made() -> impl Strategy<Value = Made> {
        prop_oneof![
            (1..1_u64 << 40).prop_map(Made::Exact),
            (1..3 * CHUNK_BYTES).prop_map(Made::Placed),
        ]
    }

    proptest! {
        /// In whatever order things come and go: what is charged covers them, and in the end it is nothing.
        #[test]
        fn a_book_balances(all in prop::collection::vec(made(), 0..40), seed in any::<u64>()) {
            let mut book = Book::default();
            let mut charged = 0;
            for made in &all {
                charged += book.add(*made);
            }
            let bytes = |made: &Made| match made {
                Made::Exact(bytes) | Made::Placed(bytes) => *bytes,
            };
            prop_assert!(charged >= all.iter().map(bytes).sum());
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.sort_by_key(|index| (*index as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            for index in order {
                charged -= book.remove(all[index]);
            }
            prop_assert_eq!((charged, book.small), (0, 0));
        }
    }

    fn accounts(ledger: &Arc<Ledger>, session: u64) -> Accounts {
        Accounts {
            seat: Some(ledger.sit(session).expect("a seat")),
            devices: vec![Device::default()],
            ..Accounts::default()
        }
    }

    fn take(accounts: &Accounts, chunks: u64) -> Result<(), CUresult> {
        let taken = accounts.take(0, Made::Exact(chunks * CHUNK_BYTES), 7)?;
        taken.expect("it is limited").commit();
        Ok(())
    }

    fn give_back(accounts: &Accounts, chunks: u64) {
        accounts.begin_to_give_back(0);
        accounts.gave_back(0, Made::Exact(chunks * CHUNK_BYTES), false);
    }

    #[test]
    fn who_is_suspended_is_charged_nothing_and_then_all_of_it_or_nothing() {
        let ledger = Arc::new(Ledger::create(&[100 * CHUNK_BYTES]).expect("a ledger"));
        let used = || ledger.used(0) / CHUNK_BYTES;
        let (one, two) = (accounts(&ledger, 1), accounts(&ledger, 2));
        assert_eq!(take(&one, 60), Ok(()));
        one.suspend();
        one.suspend();
        assert_eq!((used(), one.is_suspended()), (0, true));
        assert_eq!(take(&one, 1), Err(CUresult::NOT_READY));
        assert_eq!(take(&two, 60), Ok(()));
        assert_eq!(one.resume(), Err(CUresult::OUT_OF_MEMORY));
        assert_eq!((used(), one.is_suspended()), (60, true), "as before");
        give_back(&two, 60);
        assert_eq!(one.resume(), Ok(()));
        assert_eq!((used(), one.is_suspended()), (60, false));
        // What the driver has had back in the middle of it is not taken again.
        one.suspend();
        give_back(&one, 10);
        assert_eq!(used(), 0);
        assert_eq!(one.resume(), Ok(()));
        assert_eq!(used(), 50);
        give_back(&one, 50);
        assert_eq!(used(), 0);
    }

    #[test]
    fn small_pieces_share_chunks() {
        let mut book = Book::default();
        assert_eq!(book.add(Made::Placed(1)), CHUNK_BYTES);
        assert_eq!(book.add(Made::Placed(MOST_SMALL)), 0);
        assert_eq!(book.add(Made::Placed(MOST_SMALL)), CHUNK_BYTES);
        assert_eq!(book.add(Made::Placed(MOST_SMALL + 1)), CHUNK_BYTES);
        assert_eq!(book.remove(Made::Placed(1)), CHUNK_BYTES);
        assert_eq!(chunks(u64::MAX), u64::MAX);
    }

    #[test]
    fn who_has_not_asked_for_long_begins_anew() {
        let mut wants = HashMap::new();
        let since = asked(&mut wants, 1, || 7).get().since;
        assert_eq!(asked(&mut wants, 1, || 8).get().call, 7);
        let want = wants.get_mut(&1).expect("there");
        want.last_asked = since.checked_sub(2 * FORGOTTEN).expect("a time");
        want.is_answered = true;
        let anew = asked(&mut wants, 1, || 9);
        assert_eq!((anew.get().call, anew.get().is_answered), (9, false));
        for thread in 2..MAX_WAITING as u32 + 10 {
            asked(&mut wants, thread, || 0);
        }
        let too_many = asked(&mut wants, u32::MAX, || 0);
        assert_eq!(too_many.remove_entry().0, NOBODY);
        assert!(wants.len() <= MAX_WAITING + 1);
    }
}
