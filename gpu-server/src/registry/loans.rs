//! What sessions of one lease borrow from each other: memory that one has exported, and another opens.
//!
//! *What:* the daemon passes on the question of the one and the descriptors of the other, and keeps neither. *Why it and not the workers among themselves:*
//! a worker can connect to nothing, and what leads from one session to another shall go through who knows whose each is. *Rules:* both are of the same
//! lease, as the daemon has noted it and not as a worker says; only who was asked answers; what waits for answers is bounded, and ends with either session.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::hello::control::{Borrow, CheckpointOrder, Lent};
use tokio::sync::mpsc::Sender;

use crate::pool::LeaseId;

/// Most questions and answers that wait for a worker's task.
pub(super) const MAX_WORDS: usize = 64;

/// Most questions of one session that wait for an answer.
const MAX_OPEN: usize = 64;

/// A question that is older is waited for by nobody: its borrower has given up.
const FORGOTTEN: Duration = Duration::from_secs(20);

/// Most bytes of what something is exported by.
const MAX_KEY_BYTES: usize = 64;

/// What is passed on to a worker.
#[derive(Debug)]
pub(super) enum Word {
    /// Another one wants something of it.
    Lend { request: u64, key: Vec<u8> },
    /// Another one gives what it wanted.
    Lent { lent: Lent, files: Vec<OwnedFd> },
    /// It is to be suspended, or to go on.
    Checkpoint(CheckpointOrder),
    /// Such an order is not waited for any more.
    GiveUp(u64),
}

/// All sessions and what they wait for.
#[derive(Debug, Default)]
pub(super) struct Loans(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    leases: HashMap<u64, LeaseId>,
    speakers: HashMap<u64, Sender<Word>>,
    open: HashMap<u64, Open>,
    last: u64,
}

/// A question that waits for its answer.
#[derive(Debug)]
struct Open {
    borrower: u64,
    /// The borrower's number.
    request: u64,
    lender: u64,
    since: Instant,
}

impl Inner {
    /// Whom a session may borrow from.
    fn speaker(&self, borrower: u64, lender: u64) -> Option<&Sender<Word>> {
        let lease = self.leases.get(&borrower)?;
        let is_same = borrower != lender && self.leases.get(&lender) == Some(lease);
        self.speakers.get(&lender).filter(|_| is_same)
    }

    fn forget_the_old(&mut self, now: Instant) {
        self.open
            .retain(|_, open| now.saturating_duration_since(open.since) < FORGOTTEN);
    }

    /// Tells a borrower what its lender said.
    fn answer(&self, open: &Open, said: Lent, files: Vec<OwnedFd>) {
        let lent = Lent {
            request: open.request,
            ..said
        };
        if let Some(speaker) = self.speakers.get(&open.borrower) {
            // A borrower that does not listen does not wait either: it gives up by itself.
            let _ = speaker.try_send(Word::Lent { lent, files });
        }
    }
}

impl Loans {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes of which lease a session is.
    pub(super) fn note(&self, session: u64, lease: Option<&LeaseId>) {
        if let Some(lease) = lease {
            self.lock().leases.insert(session, lease.clone());
        }
    }

    /// The task of a session listens.
    pub(super) fn enter(&self, session: u64, speaker: Sender<Word>) {
        self.lock().speakers.insert(session, speaker);
    }

    /// Says something to a session's task; whether that listens.
    pub(super) fn say(&self, session: u64, word: Word) -> bool {
        let speaker = self.lock().speakers.get(&session).cloned();
        speaker.is_some_and(|speaker| speaker.try_send(word).is_ok())
    }

    /// A session is over.
    pub(super) fn leave(&self, session: u64) {
        let mut inner = self.lock();
        inner.leases.remove(&session);
        inner.speakers.remove(&session);
        let over = |_: &u64, open: &mut Open| open.borrower == session || open.lender == session;
        let over: Vec<(u64, Open)> = inner.open.extract_if(over).collect();
        for (_, open) in over {
            inner.answer(&open, Lent::default(), Vec::new());
        }
    }

    /// A session wants something: its lender is asked, or the answer is no.
    pub(super) fn borrow(&self, borrower: u64, borrow: &Borrow) -> Option<Lent> {
        let mut inner = self.lock();
        let no = Some(Lent {
            request: borrow.request,
            ..Lent::default()
        });
        inner.forget_the_old(Instant::now());
        let waiting = inner.open.values().filter(|open| open.borrower == borrower);
        if borrow.key.len() > MAX_KEY_BYTES || waiting.count() >= MAX_OPEN {
            return no;
        }
        let request = inner.last + 1;
        let Some(speaker) = inner.speaker(borrower, borrow.lender) else {
            return no;
        };
        let key = borrow.key.clone();
        if speaker.try_send(Word::Lend { request, key }).is_err() {
            return no;
        }
        inner.last = request;
        let open = Open {
            borrower,
            request: borrow.request,
            lender: borrow.lender,
            since: Instant::now(),
        };
        inner.open.insert(request, open);
        None
    }

    /// A session answers.
    pub(super) fn lent(&self, lender: u64, lent: &Lent, files: Vec<OwnedFd>) {
        let mut inner = self.lock();
        let is_its = |open: &Open| open.lender == lender;
        if inner.open.get(&lent.request).is_some_and(is_its)
            && let Some(open) = inner.open.remove(&lent.request)
        {
            inner.answer(&open, lent.clone(), files);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::{Receiver, channel};

    fn lease(letter: char) -> LeaseId {
        LeaseId::from_bytes([letter as u8; 10])
    }

    fn with(sessions: &[(u64, char)]) -> (Loans, HashMap<u64, Receiver<Word>>) {
        let loans = Loans::default();
        let mut words = HashMap::new();
        for (session, letter) in sessions {
            let (speaker, receiver) = channel(MAX_WORDS);
            loans.note(*session, Some(&lease(*letter)));
            loans.enter(*session, speaker);
            words.insert(*session, receiver);
        }
        (loans, words)
    }

    fn borrow(request: u64, lender: u64) -> Borrow {
        Borrow {
            request,
            lender,
            key: vec![7; 16],
        }
    }

    #[test]
    fn only_sessions_of_one_lease_lend_and_only_who_was_asked_answers() {
        let (loans, mut words) = with(&[(1, 'a'), (2, 'a'), (3, 'b')]);
        let no = |lent: Option<Lent>| lent.is_some_and(|lent| !lent.found);
        assert!(no(loans.borrow(3, &borrow(1, 1))), "another lease");
        assert!(no(loans.borrow(1, &borrow(1, 1))), "itself");
        assert!(no(loans.borrow(1, &borrow(1, 9))), "nobody");
        assert!(loans.borrow(2, &borrow(5, 1)).is_none());
        let Ok(Word::Lend { request, key }) = words.get_mut(&1).expect("there").try_recv() else {
            panic!("not asked");
        };
        assert_eq!(key, [7; 16]);
        let lent = Lent {
            request,
            found: true,
            bytes: 4096,
            device: vec![9; 16],
        };
        loans.lent(3, &lent, Vec::new());
        assert!(words.get_mut(&2).expect("there").try_recv().is_err());
        loans.lent(1, &lent, Vec::new());
        let Ok(Word::Lent { lent: answer, .. }) = words.get_mut(&2).expect("there").try_recv()
        else {
            panic!("not answered");
        };
        assert_eq!((answer.request, answer.found), (5, true));
        assert_eq!((answer.bytes, answer.device), (4096, vec![9; 16]));
        loans.lent(1, &lent, Vec::new());
        assert!(
            words.get_mut(&2).expect("there").try_recv().is_err(),
            "once"
        );
    }

    #[test]
    fn who_cannot_be_asked_is_said_at_once_to_have_nothing() {
        let (loans, words) = with(&[(1, 'a'), (2, 'a'), (3, 'a')]);
        let is_no = |lent: Option<Lent>| lent.is_some_and(|lent| !lent.found);
        let long = Borrow {
            key: vec![7; MAX_KEY_BYTES + 1],
            ..borrow(1, 1)
        };
        assert!(is_no(loans.borrow(2, &long)), "no key is so long");
        for request in 0..MAX_WORDS as u64 {
            let borrower = 2 + request % 2;
            assert!(loans.borrow(borrower, &borrow(request, 1)).is_none());
        }
        assert!(is_no(loans.borrow(2, &borrow(99, 1))), "it does not listen");
        assert_eq!(loans.lock().open.len(), MAX_WORDS);
        drop(words);
        assert!(is_no(loans.borrow(1, &borrow(1, 2))), "its task is gone");
    }

    #[test]
    fn what_was_asked_by_a_session_that_ended_is_told_to_nobody() {
        let (loans, mut words) = with(&[(1, 'a'), (2, 'a')]);
        assert!(loans.borrow(2, &borrow(5, 1)).is_none());
        loans.leave(2);
        assert!(loans.lock().open.is_empty());
        let lent = Lent {
            request: 1,
            found: true,
            ..Lent::default()
        };
        loans.lent(1, &lent, Vec::new());
        assert!(words.get_mut(&2).expect("there").try_recv().is_err());
        let is_no = |lent: Option<Lent>| lent.is_some_and(|lent| !lent.found);
        assert!(is_no(loans.borrow(1, &borrow(6, 2))), "it has nothing");
    }

    #[test]
    fn what_is_never_answered_is_forgotten() {
        let (loans, _words) = with(&[(1, 'a'), (2, 'a')]);
        for request in 0..MAX_OPEN as u64 {
            assert!(loans.borrow(2, &borrow(request, 1)).is_none());
        }
        let now = Instant::now();
        loans.lock().forget_the_old(now);
        assert_eq!(loans.lock().open.len(), MAX_OPEN);
        loans.lock().forget_the_old(now + FORGOTTEN);
        assert!(loans.lock().open.is_empty());
    }

    #[test]
    fn who_waits_for_a_session_that_ends_is_told() {
        let (loans, mut words) = with(&[(1, 'a'), (2, 'a')]);
        for request in 0..MAX_OPEN as u64 {
            assert!(loans.borrow(2, &borrow(request, 1)).is_none());
        }
        let full = loans.borrow(2, &borrow(99, 1));
        assert!(full.is_some_and(|lent| !lent.found), "bounded");
        loans.leave(1);
        let told = words.get_mut(&2).expect("there");
        let mut answers = 0;
        while let Ok(Word::Lent { lent, .. }) = told.try_recv() {
            assert!(!lent.found);
            answers += 1;
        }
        assert_eq!(answers, MAX_OPEN);
    }
}
