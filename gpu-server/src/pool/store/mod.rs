//! What outlives the daemon: leases, the drain, what tenants have used, the next session's number, the key of registrations.
//!
//! *What:* a [`Store`] is the file `STATE/pool.redb`; a [`StoreThread`] writes it, so that nobody else waits for a disk. Which
//! [`Decision`]s change what is said purely by [`changes`]. *Why a database:* a change is there whole or not at all, whenever the process or the
//! machine ends. *Rules:*
//!
//! * a lease is stored before its grant is told: the grant waits for the [`Ack`];
//! * a lease that has ended while it has sessions stays stored as ended, so that its slices stay taken after a restart as well; it is
//!   [forgotten](Change::Forget) with its last session;
//! * a store that is damaged, or of a newer server, is refused and left as it is: never emptied, never repaired by leaving something out;
//! * one daemon at a time: `STATE/pool.lock` is locked for as long as the store is open.
//!
//! ```text
//! meta      format, key, since, drain, sessions        usage     tenant -> totals
//! leases    id -> lease                                readings  id -> how far the lease is charged
//! ```

mod record;
#[cfg(test)]
mod tests;
mod thread;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::meter::{Reading, Totals};
use super::{Decision, Drain, Lease, LeaseId, Moment, Tenant};
use record::{DrainRecord, LeaseRecord, ReadingRecord, UsageRecord};

pub use thread::{Ack, NotStored, StoreThread};

/// What this server writes. A server that knows less refuses it.
pub const FORMAT: u64 = 1;

/// The file's name in the state directory.
pub const FILE: &str = "pool.redb";

/// What is locked, in the state directory.
const LOCK: &str = "pool.lock";

/// How long a server that is just ending, or a child that is just becoming a worker, may hold the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// So many numbers of sessions are reserved at once.
const SESSIONS: u64 = 4096;

/// The bytes of the key that registrations are sealed by.
pub const KEY_BYTES: usize = 32;

/// Memory for pages that were read.
const CACHE_BYTES: usize = 4 << 20;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LEASES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("leases");
const USAGE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("usage");
const READINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("readings");

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another server has it.
    #[error(
        "another gpu-server{holder} uses {}: end it first, or give this one a state directory of its own (state = '…' in server.toml)",
        .directory.display()
    )]
    Taken {
        /// The state directory.
        directory: PathBuf,
        /// Who, for people; empty: not known.
        holder: String,
    },
    /// The operating system.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was written by a newer server.
    #[error(
        "{} was written by a newer gpu-server (format {found}, this one knows {FORMAT}): start that release again, or move the file away, \
         which forgets all leases and what tenants have used",
        .path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It is damaged.
    #[error(
        "{} is damaged ({problem}), and is left as it is: restore it from a copy, or move it away, which forgets all leases and what tenants have used",
        .path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How.
        problem: String,
    },
    /// It cannot be written now.
    #[error("{} cannot be written: {problem}", .path.display())]
    Unwritten {
        /// Which file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

/// What was there at the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Leases, among them ended ones whose sessions had not ended.
    pub leases: Vec<Lease>,
    /// The drain.
    pub drain: Option<Drain>,
    /// What tenants have used.
    pub usage: BTreeMap<Tenant, Totals>,
    /// How far each lease is charged.
    pub readings: BTreeMap<LeaseId, Reading>,
    /// Since when usage is counted.
    pub since: Moment,
    /// The numbers that no session had yet.
    pub sessions: SessionNumbers,
    /// What registrations of workers are sealed by.
    pub key: [u8; KEY_BYTES],
}

/// A change to what is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The lease is as this.
    Lease(Box<Lease>),
    /// The lease is over, and so are its sessions.
    Forget(LeaseId),
    /// The server is being emptied, or not any more.
    Drain(Option<Drain>),
    /// The tenant has used so much.
    Usage(Tenant, Totals),
    /// The lease is charged so far.
    Reading(LeaseId, Reading),
    /// Numbers of sessions below this one may be in use.
    Sessions(u64),
}

/// What a decision changes.
#[must_use]
pub fn changes(decision: &Decision) -> Vec<Change> {
    match decision {
        Decision::Granted { lease, .. } | Decision::Changed { lease } => {
            vec![Change::Lease(lease.clone())]
        }
        Decision::Ended { lease, .. } if lease.sessions == 0 => {
            vec![Change::Forget(lease.id.clone())]
        }
        Decision::Ended { lease, .. } => vec![Change::Lease(lease.clone())],
        Decision::Queued { .. } | Decision::Refused { .. } | Decision::Warned { .. } => Vec::new(),
    }
}

/// Gives sessions their numbers: each once, over all servers that had the same store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionNumbers {
    next: u64,
    reserved: u64,
    is_stored: bool,
}

impl Default for SessionNumbers {
    /// Without a store: from 1.
    fn default() -> Self {
        Self {
            next: 1,
            reserved: u64::MAX,
            is_stored: false,
        }
    }
}

impl SessionNumbers {
    fn stored(next: u64) -> Self {
        Self {
            next,
            reserved: next.saturating_add(SESSIONS),
            is_stored: true,
        }
    }

    /// The next number, and what is to be stored, if anything is: long before the numbers that are reserved are used up.
    pub fn take(&mut self) -> (u64, Option<Change>) {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        let is_short = self.is_stored && self.reserved.saturating_sub(self.next) < SESSIONS / 2;
        let change = is_short.then(|| {
            self.reserved = self.reserved.saturating_add(SESSIONS);
            Change::Sessions(self.reserved)
        });
        (number, change)
    }
}

/// The pool's state in a file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// None after a failed write: it is opened again before the next.
    database: Option<Database>,
    /// Locked for as long as this lives.
    _lock: File,
}

impl Store {
    /// Opens the store of a state directory, or makes it, and reads all of it.
    ///
    /// # Errors
    /// Another server has it; it is damaged, or of a newer server; the operating system.
    pub fn open(directory: &Path) -> Result<(Self, Stored), StoreError> {
        make_directory(directory)?;
        let lock = lock(directory)?;
        let path = directory.join(FILE);
        if !path.try_exists().map_err(|source| failed(&path, source))? {
            create(directory, &path)?;
        }
        let mut store = Self {
            database: Some(open(&path)?),
            path,
            _lock: lock,
        };
        let stored = store.read()?;
        let reserved = Change::Sessions(stored.sessions.reserved);
        store.apply(&[reserved])?;
        Ok((store, stored))
    }

    /// Makes the changes, all of them or none, and returns when they are on the disk.
    ///
    /// # Errors
    /// Nothing of it was written, as far as anyone will see.
    pub fn apply(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let written = guarded(|| {
            let transaction = database.begin_write().map_err(text)?;
            for change in changes {
                write(&transaction, change)?;
            }
            transaction.commit().map_err(text)
        });
        match written {
            Ok(()) => {
                self.database = Some(database);
                Ok(())
            }
            Err(problem) => Err(StoreError::Unwritten {
                path: self.path.clone(),
                problem,
            }),
        }
    }

    fn read(&mut self) -> Result<Stored, StoreError> {
        let Some(database) = &self.database else {
            return Err(self.damaged("it is not open".to_owned()));
        };
        let read = guarded(|| read(database));
        match read.map_err(|problem| self.damaged(problem))? {
            Found::Stored(stored) => Ok(*stored),
            Found::Newer(found) => Err(StoreError::Newer {
                path: self.path.clone(),
                found,
            }),
        }
    }

    fn damaged(&self, problem: String) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            problem,
        }
    }
}

/// What a file holds.
enum Found {
    Stored(Box<Stored>),
    Newer(u64),
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        path: path.to_owned(),
        source,
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// Does it; what the database says by a panic is an error as well.
fn guarded<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(ToString::to_string);
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(said.unwrap_or_else(|| "the database panicked".to_owned()))
    })
}

fn make_directory(directory: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(directory);
    made.map_err(|source| failed(directory, source))
}

/// Locks the state directory for this process.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(&path);
    let mut file = file.map_err(|source| failed(&path, source))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Taken {
                    directory: directory.to_owned(),
                    holder: holder(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(&path, source)),
        }
    }
    // For people who meet the lock: nothing depends on it.
    let told = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = told {
        tracing::debug!("{}: {error}", path.display());
    }
    Ok(file)
}

/// Who has the lock, as it has written itself down.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(16).read_to_string(&mut text));
    let process = read.ok().and_then(|_| text.trim().parse::<u32>().ok());
    process.map_or_else(String::new, |process| format!(" (process {process})"))
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

/// Makes an empty store beside its place, and puts it there whole.
fn create(directory: &Path, path: &Path) -> Result<(), StoreError> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&new, error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let file = options.open(&new).map_err(|source| failed(&new, source))?;
    let made = guarded(|| {
        let backend = FileBackend::new(file).map_err(text)?;
        let database = builder().create_with_backend(backend).map_err(text)?;
        begin(&database)
    });
    made.map_err(|problem| StoreError::Unwritten {
        path: new.clone(),
        problem,
    })?;
    std::fs::rename(&new, path).map_err(|source| failed(path, source))?;
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| failed(directory, source))
}

/// Writes what every store has.
fn begin(database: &Database) -> Result<(), String> {
    let mut key = [0_u8; KEY_BYTES];
    let mut filled = 0;
    while filled < KEY_BYTES {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut key[filled..], flags).map_err(text)?;
    }
    let transaction = database.begin_write().map_err(text)?;
    for table in [LEASES, USAGE, READINGS] {
        transaction.open_table(table).map_err(text)?;
    }
    put(&transaction, META, "format", &FORMAT)?;
    put(&transaction, META, "since", &Moment::now().0)?;
    put(&transaction, META, "key", &key)?;
    put(&transaction, META, "sessions", &1_u64)?;
    transaction.commit().map_err(text)
}

fn open(path: &Path) -> Result<Database, StoreError> {
    let length = std::fs::metadata(path).map_err(|source| failed(path, source))?;
    let damaged = |problem| StoreError::Damaged {
        path: path.to_owned(),
        problem,
    };
    if length.len() == 0 {
        return Err(damaged("it is empty".to_owned()));
    }
    guarded(|| builder().open(path).map_err(text)).map_err(damaged)
}

fn read(database: &Database) -> Result<Found, String> {
    let transaction = database.begin_write().map_err(text)?;
    let format: u64 = get(&transaction, "format")?.ok_or("it is no pool's state")?;
    if format > FORMAT {
        return Ok(Found::Newer(format));
    }
    let must = |name: &str| format!("'{name}' is missing");
    let leases: Vec<(String, LeaseRecord)> = all(&transaction, LEASES)?;
    let leases = leases.into_iter().map(|(_, lease)| lease.try_into());
    let usage: Vec<(String, UsageRecord)> = all(&transaction, USAGE)?;
    let usage = usage.into_iter().map(|(tenant, totals)| {
        let tenant = tenant.parse().map_err(text)?;
        Ok((tenant, totals.try_into()?))
    });
    let readings: Vec<(String, ReadingRecord)> = all(&transaction, READINGS)?;
    let readings = readings.into_iter().map(|(lease, reading)| {
        let lease = lease.parse().map_err(text)?;
        Ok((lease, reading.into()))
    });
    let sessions = get(&transaction, "sessions")?.ok_or_else(|| must("sessions"))?;
    let stored = Stored {
        leases: leases.collect::<Result<_, String>>()?,
        drain: get::<Option<DrainRecord>>(&transaction, "drain")?
            .flatten()
            .map(Into::into),
        usage: usage.collect::<Result<_, String>>()?,
        readings: readings.collect::<Result<_, String>>()?,
        since: Moment(get(&transaction, "since")?.ok_or_else(|| must("since"))?),
        sessions: SessionNumbers::stored(sessions),
        key: get(&transaction, "key")?.ok_or_else(|| must("key"))?,
    };
    transaction.abort().map_err(text)?;
    Ok(Found::Stored(Box::new(stored)))
}

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

fn get<T: DeserializeOwned>(
    transaction: &WriteTransaction,
    name: &str,
) -> Result<Option<T>, String> {
    let table = transaction.open_table(META).map_err(text)?;
    let value = table.get(name).map_err(text)?;
    let parse = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|error| wrong(name, &error));
    value.map(|value| parse(value.value())).transpose()
}

fn all<T: DeserializeOwned>(
    transaction: &WriteTransaction,
    table: Table,
) -> Result<Vec<(String, T)>, String> {
    let table = transaction.open_table(table).map_err(text)?;
    let rows = table.iter().map_err(text)?.map(|row| {
        let (name, value) = row.map_err(text)?;
        let name = name.value().to_owned();
        let value = serde_json::from_slice(value.value()).map_err(|error| wrong(&name, &error))?;
        Ok((name, value))
    });
    rows.collect()
}

fn wrong(name: &str, error: &serde_json::Error) -> String {
    format!("'{name}' cannot be understood: {error}")
}

fn put(
    transaction: &WriteTransaction,
    table: Table,
    name: &str,
    value: &impl Serialize,
) -> Result<(), String> {
    let bytes = serde_json::to_vec(value).map_err(text)?;
    let mut table = transaction.open_table(table).map_err(text)?;
    table.insert(name, bytes.as_slice()).map_err(text)?;
    Ok(())
}

fn remove(transaction: &WriteTransaction, table: Table, name: &str) -> Result<(), String> {
    let mut table = transaction.open_table(table).map_err(text)?;
    table.remove(name).map_err(text)?;
    Ok(())
}

fn write(transaction: &WriteTransaction, change: &Change) -> Result<(), String> {
    match change {
        Change::Lease(lease) => {
            let record = LeaseRecord::from(&**lease);
            put(transaction, LEASES, lease.id.as_str(), &record)
        }
        Change::Forget(lease) => {
            remove(transaction, READINGS, lease.as_str())?;
            remove(transaction, LEASES, lease.as_str())
        }
        Change::Drain(drain) => {
            let record = drain.map(DrainRecord::from);
            put(transaction, META, "drain", &record)
        }
        Change::Usage(tenant, totals) => {
            let record = UsageRecord::from(totals);
            put(transaction, USAGE, tenant.as_str(), &record)
        }
        Change::Reading(lease, reading) => {
            let record = ReadingRecord::from(*reading);
            put(transaction, READINGS, lease.as_str(), &record)
        }
        Change::Sessions(number) => put(transaction, META, "sessions", number),
    }
}
