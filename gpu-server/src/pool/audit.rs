//! The audit log: who got which lease, when, and how it ended; and who was refused, and why.
//!
//! *What:* an [`Entry`] is a line of JSON, made purely; an [`AuditLog`] appends lines to `STATE/audit.log`, which only its owner can read. *Rules:*
//! each line is one write at the end of the file, so that lines of two servers never mix; the file is opened again when asked to, so that it can be
//! moved away while we run; nobody waits for the disk but the log's own thread, which has written everything when the log ends. A line that cannot be
//! written is logged, with what it says, and the server goes on. Tokens themselves are never written, only their ids.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{
    Caller, Decision, Drain, Holder, Keeping, Lease, LeaseError, LeaseId, Moment, Need, Refusal,
    Slice, Tenant, TokenId,
};

/// The file's name in the state directory.
pub const FILE: &str = "audit.log";

/// Most letters of what a client says of itself.
const MAX_LETTERS: usize = 256;

/// Most lines that wait to be written. More of them are only logged.
const MAX_WAITING: usize = 4096;

/// A line of the log.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// When, as RFC 3339.
    time: String,
    /// What happened.
    event: Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<Tenant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<TokenId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keeping: Option<Keeping>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<DevicePart>,
    /// Until when, as RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    /// How a lease ended, or why somebody was refused: one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// One sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// How long a lease lasted.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u64>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Granted,
    Changed,
    Ended,
    RequestRefused,
    LeaseRefused,
    ClientRefused,
    SessionBegan,
    SessionEnded,
    Drain,
    DrainUndone,
    TokenRevoked,
    ServerBegan,
    ServerEnded,
}

/// A part of a device.
#[derive(Debug, Clone, Serialize)]
struct DevicePart {
    ordinal: u32,
    uuid: String,
    memory: u64,
    compute: f64,
}

impl From<&Slice> for DevicePart {
    fn from(slice: &Slice) -> Self {
        Self {
            ordinal: slice.ordinal,
            uuid: data_encoding::HEXLOWER.encode(&slice.uuid),
            memory: slice.memory,
            compute: slice.compute.fraction(),
        }
    }
}

/// What is to be written of a decision, if anything is. A refusal says more by [`Entry::request_refused`].
#[must_use]
pub fn entry(decision: &Decision, moment: Moment) -> Option<Entry> {
    match decision {
        Decision::Granted { lease, .. } => Some(Entry::of(Event::Granted, lease, moment)),
        Decision::Changed { lease } => Some(Entry::of(Event::Changed, lease, moment)),
        Decision::Ended {
            lease,
            end,
            message,
        } => Some(Entry {
            reason: Some(end.name().to_owned()),
            message: Some(message.clone()),
            seconds: Some(moment.since(lease.granted).as_secs_f64()),
            ..Entry::of(Event::Ended, lease, moment)
        }),
        Decision::Queued { .. } | Decision::Refused { .. } | Decision::Warned { .. } => None,
    }
}

impl Entry {
    fn new(event: Event, moment: Moment) -> Self {
        Self {
            time: rfc3339(moment),
            event,
            lease: None,
            tenant: None,
            token: None,
            holder: None,
            keeping: None,
            devices: Vec::new(),
            expires: None,
            reason: None,
            message: None,
            seconds: None,
            session: None,
            client: None,
        }
    }

    fn of(event: Event, lease: &Lease, moment: Moment) -> Self {
        Self {
            lease: Some(lease.id.clone()),
            tenant: Some(lease.tenant.clone()),
            token: lease.token.clone(),
            holder: Some(short_holder(&lease.holder)),
            keeping: Some(lease.keeping),
            devices: lease.slices.iter().map(Into::into).collect(),
            expires: lease.expires.map(rfc3339),
            ..Self::new(event, moment)
        }
    }

    fn by(event: Event, caller: &Caller, moment: Moment) -> Self {
        Self {
            tenant: Some(caller.tenant.clone()),
            token: caller.token_id.clone(),
            ..Self::new(event, moment)
        }
    }

    /// Somebody asked for a lease and got none.
    #[must_use]
    pub fn request_refused(
        caller: &Caller,
        holder: &Holder,
        need: &Need,
        refusal: &Refusal,
        moment: Moment,
    ) -> Self {
        Self {
            holder: Some(short_holder(holder)),
            reason: Some(refusal_name(refusal).to_owned()),
            message: Some(format!("{} asked for: {refusal}", devices(need.count))),
            ..Self::by(Event::RequestRefused, caller, moment)
        }
    }

    /// Somebody wanted to use, renew or end a lease, and may not.
    #[must_use]
    pub fn lease_refused(
        caller: &Caller,
        lease: &LeaseId,
        error: &LeaseError,
        moment: Moment,
    ) -> Self {
        let reason = match error {
            LeaseError::Unknown(_) => "unknown",
            LeaseError::Forbidden(_) => "forbidden",
            LeaseError::NotDetached(_) => "not_detached",
            LeaseError::Limit(_) => "limit",
        };
        Self {
            lease: Some(lease.clone()),
            reason: Some(reason.to_owned()),
            message: Some(error.to_string()),
            ..Self::by(Event::LeaseRefused, caller, moment)
        }
    }

    /// Somebody was not let in: no token, or one that is not valid, or a way that is not allowed.
    #[must_use]
    pub fn client_refused(client: &str, message: &str, moment: Moment) -> Self {
        Self {
            client: Some(short(client)),
            message: Some(short(message)),
            ..Self::new(Event::ClientRefused, moment)
        }
    }

    /// A session of a lease has begun.
    #[must_use]
    pub fn session_began(session: u64, lease: &Lease, holder: &Holder, moment: Moment) -> Self {
        Self {
            lease: Some(lease.id.clone()),
            tenant: Some(lease.tenant.clone()),
            holder: Some(short_holder(holder)),
            session: Some(session),
            ..Self::new(Event::SessionBegan, moment)
        }
    }

    /// A session has ended, in this way.
    #[must_use]
    pub fn session_ended(session: u64, lease: Option<&LeaseId>, how: &str, moment: Moment) -> Self {
        Self {
            lease: lease.cloned(),
            session: Some(session),
            reason: Some(short(how)),
            ..Self::new(Event::SessionEnded, moment)
        }
    }

    /// An operator empties the server, or does not any more.
    #[must_use]
    pub fn drain(caller: &Caller, drain: Option<Drain>, moment: Moment) -> Self {
        let event = drain.map_or(Event::DrainUndone, |_| Event::Drain);
        Self {
            expires: drain.and_then(|drain| drain.end).map(rfc3339),
            ..Self::by(event, caller, moment)
        }
    }

    /// A token is worth nothing any more.
    #[must_use]
    pub fn token_revoked(token: &TokenId, moment: Moment) -> Self {
        Self {
            token: Some(token.clone()),
            ..Self::new(Event::TokenRevoked, moment)
        }
    }

    /// The server has begun.
    #[must_use]
    pub fn server_began(moment: Moment) -> Self {
        Self::new(Event::ServerBegan, moment)
    }

    /// The server ends.
    #[must_use]
    pub fn server_ended(moment: Moment) -> Self {
        Self::new(Event::ServerEnded, moment)
    }

    /// The line, with its end.
    fn line(&self) -> String {
        // It has no map whose keys are no texts, and no number that is none.
        let mut line = serde_json::to_string(self).unwrap_or_else(|error| error.to_string());
        line.push('\n');
        line
    }
}

fn devices(count: u32) -> String {
    match count {
        1 => "1 device".to_owned(),
        count => format!("{count} devices"),
    }
}

/// The refusal in one word.
#[must_use]
pub const fn refusal_name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::TooMany { .. } => "too_many",
        Refusal::TooLarge { .. } => "too_large",
        Refusal::TooSmall { .. } => "too_small",
        Refusal::Limit(_) => "limit",
        Refusal::Busy { .. } => "busy",
        Refusal::QueueFull(_) => "queue_full",
        Refusal::Draining => "draining",
        Refusal::Revoked => "revoked",
    }
}

fn rfc3339(moment: Moment) -> String {
    // A moment beyond what that can say is never.
    const LAST: u64 = 253_402_300_799_000;
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(moment.0.min(LAST));
    humantime::format_rfc3339_millis(time).to_string()
}

fn short(text: &str) -> String {
    text.chars().take(MAX_LETTERS).collect()
}

fn short_holder(holder: &Holder) -> Holder {
    Holder {
        host: short(&holder.host),
        user: short(&holder.user),
        process: holder.process,
        program: short(&holder.program),
    }
}

/// What the log's thread is told.
enum Order {
    Write(String),
    Reopen,
}

/// The log.
#[derive(Debug)]
pub struct AuditLog {
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl AuditLog {
    /// Opens the log of a state directory, to append to it.
    ///
    /// # Errors
    /// The file cannot be opened, or there can be no thread.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE);
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = Lines::open(&path).map_err(named)?;
        let (orders, incoming) = sync_channel(MAX_WAITING);
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || run(file, &incoming))?;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Hands a line over. Never waits.
    pub fn write(&self, entry: &Entry) {
        self.order(Order::Write(entry.line()));
    }

    /// Opens the file by its name again, so that one that was moved away is let go.
    pub fn reopen(&self) {
        self.order(Order::Reopen);
    }

    fn order(&self, order: Order) {
        let Some(orders) = &self.orders else {
            return;
        };
        match orders.try_send(order) {
            Ok(()) => {}
            Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) => {
                let Order::Write(line) = order else {
                    return tracing::error!("the audit log was not opened again: it is too slow");
                };
                tracing::error!(line, "the audit log is too slow; it lacks this line");
            }
        }
    }

    fn close(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the audit log's thread has panicked");
        }
    }
}

impl Drop for AuditLog {
    /// Writes what was handed over.
    fn drop(&mut self) {
        self.close();
    }
}

fn run(mut lines: Lines, orders: &Receiver<Order>) {
    for order in orders {
        match order {
            Order::Write(line) => lines.write(&line),
            Order::Reopen => lines.reopen(),
        }
    }
}

/// The file, and whether its last line is whole.
struct Lines {
    path: PathBuf,
    file: File,
    is_torn: bool,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let file = options.open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            is_torn: false,
        })
    }

    fn reopen(&mut self) {
        match Self::open(&self.path) {
            Ok(again) => *self = again,
            Err(error) => {
                let path = self.path.display();
                tracing::error!("{path} cannot be opened again: {error}; the old file is used");
            }
        }
    }

    fn write(&mut self, line: &str) {
        let whole = match self.is_torn {
            true => format!("\n{line}"),
            false => line.to_owned(),
        };
        let bytes = whole.as_bytes();
        let result = loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let problem = match result {
            Ok(written) if written == bytes.len() => {
                self.is_torn = false;
                return;
            }
            Ok(written) => {
                self.is_torn |= written > 0;
                "no space is left for a whole line".to_owned()
            }
            Err(error) => error.to_string(),
        };
        let path = self.path.display();
        tracing::error!(line = line.trim_end(), "{path} lacks this line: {problem}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::pool::sample::{ended, granted, lease};
    use serde_json::Value;

    fn id() -> LeaseId {
        LeaseId::from_bytes([9; 10])
    }

    fn written(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).expect("a log");
        assert!(text.is_empty() || text.ends_with('\n'));
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("lines of JSON")
    }

    #[test]
    fn a_lease_s_life_is_three_lines() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = AuditLog::open(directory.path()).expect("a log");
        let lease = lease(id(), "ann", Moment(1_700_000_000_000));
        let caller = Caller::unlimited(Tenant::local(), false);
        for entry in [
            entry(&granted(lease.clone()), Moment(1_700_000_000_000)),
            entry(&ended(lease.clone()), Moment(1_700_000_060_500)),
        ] {
            log.write(&entry.expect("an entry"));
        }
        let error = LeaseError::Forbidden(id());
        log.write(&Entry::lease_refused(
            &caller,
            &id(),
            &error,
            Moment(1_700_000_070_000),
        ));
        drop(log);
        let path = directory.path().join(FILE);
        let lines = written(&path);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["event"], "granted");
        assert_eq!(lines[0]["time"], "2023-11-14T22:13:20.000Z");
        assert_eq!(lines[0]["holder"]["program"], "train \"it\"\n");
        assert_eq!(lines[0]["devices"][1]["compute"], 0.5);
        assert_eq!(lines[1]["reason"], "expired");
        assert_eq!(lines[1]["seconds"], 60.5);
        assert_eq!(lines[1]["token"], "t-1");
        assert_eq!(lines[2]["tenant"], "local");
        assert_eq!(lines[2]["reason"], "forbidden");
        let mode = std::fs::metadata(&path).expect("a file").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_not_for_the_log_is_not_in_it() {
        let request = crate::pool::RequestId(1);
        let refusal = Refusal::Draining;
        let refused = Decision::Refused { request, refusal };
        assert!(entry(&refused, Moment(0)).is_none());
        let message = String::new();
        let warned = Decision::Warned {
            lease: id(),
            message,
        };
        assert!(entry(&warned, Moment(0)).is_none());
    }

    #[test]
    fn a_log_that_was_moved_away_begins_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE);
        let old = directory.path().join("audit.log.1");
        let log = AuditLog::open(directory.path()).expect("a log");
        log.write(&Entry::server_began(Moment(0)));
        // What is written after the move and before it is opened again goes where it was.
        drop(log);
        let log = AuditLog::open(directory.path()).expect("a log");
        std::fs::rename(&path, &old).expect("moved");
        log.write(&Entry::token_revoked(
            &"t-1".parse().expect("a token"),
            Moment(1),
        ));
        log.reopen();
        log.write(&Entry::server_ended(Moment(2)));
        drop(log);
        assert_eq!(written(&old).len(), 2);
        assert_eq!(written(&path)[0]["event"], "server_ended");
    }

    #[test]
    fn a_full_disk_is_no_harm_and_tears_no_other_line() {
        let full = Path::new("/dev/full");
        let mut lines = Lines::open(full).expect("a device");
        lines.write("{}\n");
        assert!(!lines.is_torn);
        // A line of which a part was written is ended before the next.
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE);
        let mut lines = Lines::open(&path).expect("a log");
        lines.file.write_all(b"{\"tor").expect("written");
        lines.is_torn = true;
        lines.write("{}\n");
        lines.write("{}\n");
        let text = std::fs::read_to_string(&path).expect("a log");
        assert_eq!(text, "{\"tor\n{}\n{}\n");
    }
}
