//! Sessions: each begins under a lease, which it names, shares with its household, or waits for.
//!
//! Rules: a session counts from its grant on; who gets none is told why.

use protocol::hello::{Hello, RefusalCode, Refused, refusal};
use tokio::sync::mpsc;

use super::equipment::EquipError;
use super::household::{Household, Members};
use super::{Asking, Joining};
use crate::daemon::service::holder;
use crate::daemon::waiting::{self, Word};
use crate::daemon::{Client, Daemon, Granted};
use crate::pool::{
    Ask, Caller, Keeping, Lease, LeaseError, LeaseId, Moment, Need, NeedError, Portion, RequestId,
};

/// What a program that came without a lease asks for.
fn need(hello: &Hello) -> Result<Need, Refused> {
    let wrong = |error: NeedError| refusal(RefusalCode::Malformed, error.to_string());
    Need::try_from(&hello.devices.unwrap_or_default()).map_err(wrong)
}

pub(super) fn lease_refused(error: &LeaseError) -> Refused {
    refusal(error.code(), error.to_string())
}

impl Daemon {
    /// Begins a session: under the lease that it names, or its household's, or one of its own.
    pub(in crate::daemon) fn begin(&mut self, client: Client, granted: Granted, caller: Caller) {
        if !granted.hello.lease.is_empty() {
            return self.begin_under(client, granted, &caller);
        }
        let need = match need(&granted.hello) {
            Ok(need) => need,
            Err(refused) => return self.refuse(client, refused),
        };
        let identity = granted.hello.identity.clone().unwrap_or_default();
        let members = Members {
            tenant: caller.tenant.clone(),
            token: caller.token_id.clone(),
            host: identity.host.clone(),
            user: identity.user.clone(),
            namespace: identity.process_namespace.clone(),
            count: need.count,
        };
        let is_household = need.memory == Portion::Whole && need.compute.is_none();
        if is_household && let Some(lease) = self.leases.household(&members) {
            let granted = Granted { lease, ..granted };
            return self.join(client, granted, caller);
        }
        let ask = Ask {
            lease: granted.lease.clone(),
            caller,
            need,
            holder: holder(Some(&identity)),
            keeping: Keeping::Session,
            time: None,
            waits: granted.hello.waits,
        };
        let now = Moment::now();
        let asked = ask.clone();
        let (request, decisions) = self.leases.scheduler.request(ask, now);
        self.note_refusal(&asked, request, &decisions);
        let (words, heard) = mpsc::unbounded_channel();
        let asking = Asking::Session(words, Box::new(granted), now);
        self.leases.asking.insert(request, asking);
        if is_household {
            let lease = asked.lease;
            self.leases.households.push(Household { lease, members });
        }
        tokio::spawn(waiting::keep(client, request, heard, self.events.clone()));
        self.apply(decisions);
    }

    /// Begins a session under the lease of its household, once that is told: its grant may be on its way to the disk.
    fn join(&mut self, client: Client, granted: Granted, caller: Caller) {
        if self.leases.held.contains_key(&granted.lease) {
            return self.begin_in(client, granted, &caller);
        }
        self.leases.joining.push(Joining {
            client,
            granted,
            caller,
        });
    }

    /// A lease is told, or will not be: who came for it meanwhile begins, or reads why not.
    pub(super) fn let_joining_in(&mut self, lease: &LeaseId) {
        let joining = &mut self.leases.joining;
        let theirs: Vec<Joining> = joining
            .extract_if(.., |joining| joining.granted.lease == *lease)
            .collect();
        for Joining {
            client,
            granted,
            caller,
        } in theirs
        {
            self.begin_in(client, granted, &caller);
        }
    }

    /// Begins a session under the lease that its program names.
    pub(super) fn begin_under(&mut self, client: Client, granted: Granted, caller: &Caller) {
        let lease = match granted.hello.lease.parse::<LeaseId>() {
            Ok(lease) => lease,
            Err(error) => {
                let refused = refusal(RefusalCode::Lease, error.to_string());
                return self.refuse(client, refused);
            }
        };
        self.begin_in(client, Granted { lease, ..granted }, caller);
    }

    pub(super) fn begin_in(&mut self, client: Client, granted: Granted, caller: &Caller) {
        let lease = match self.leases.scheduler.begin_session(&granted.lease, caller) {
            Ok(lease) => lease.clone(),
            Err(error) => {
                self.books
                    .lease_refused(caller, &granted.lease, &error, Moment::now());
                return self.refuse(client, lease_refused(&error));
            }
        };
        // A lease of before a restart, of which nothing has come back with a worker, has nothing yet.
        if let Err(error) = self.equip_anew(&lease) {
            let message = format!("the server cannot give the lease: {error}");
            self.refuse(client, refusal(RefusalCode::Internal, message));
            return self.end_session(&lease.id);
        }
        self.grant(client, granted);
    }

    /// Gives a lease what it needs, if it has nothing.
    fn equip_anew(&mut self, lease: &Lease) -> Result<(), EquipError> {
        if self.leases.held.contains_key(&lease.id) {
            return Ok(());
        }
        self.leases.equip(lease)?;
        self.books.gates_are_new(&lease.id);
        Ok(())
    }

    /// Nobody waits for the answer to a request any more.
    pub(in crate::daemon) fn withdraw(&mut self, request: RequestId) {
        if let Some(Asking::Session(_, granted, _)) = self.leases.asking.remove(&request) {
            self.leases.forget_household(&granted.lease);
        }
        let decisions = self.leases.scheduler.withdraw(request, Moment::now());
        self.apply(decisions);
    }

    /// A session is over, or did not come about.
    pub(in crate::daemon) fn end_session(&mut self, lease: &LeaseId) {
        self.leases.reap(lease);
        self.note_used(lease);
        let decisions = self.leases.scheduler.end_session(lease, Moment::now());
        self.apply(decisions);
        self.leases.strip(lease);
    }

    /// Charges what a lease's gates have counted; they are up to date.
    pub(super) fn note_used(&mut self, lease: &LeaseId) {
        if let Some(held) = self.leases.held.get(lease) {
            let used = held.places.iter().map(|(gate, place)| gate.charged(*place));
            self.books.used(lease, used.sum());
        }
    }

    /// Lets a program in that has waited. Its session counts from now on.
    pub(super) fn let_in(
        &mut self,
        lease: &LeaseId,
        caller: &Caller,
        words: &mpsc::UnboundedSender<Word>,
        mut granted: Box<Granted>,
    ) {
        if let Err(error) = self.leases.scheduler.begin_session(lease, caller) {
            drop(words.send(Word::Refused(lease_refused(&error))));
            return;
        }
        granted.lease = lease.clone();
        if words.send(Word::Granted(granted)).is_err() {
            self.end_session(lease);
        }
    }

    /// Who waited for a lease of the same household joins this one.
    pub(super) fn let_household_in(&mut self, lease: &LeaseId, caller: &Caller) {
        for request in self.leases.household_of(lease) {
            if let Some(Asking::Session(words, granted, _)) = self.leases.asking.remove(&request) {
                self.leases.forget_household(&granted.lease);
                self.let_in(lease, caller, &words, granted);
                let decisions = self.leases.scheduler.withdraw(request, Moment::now());
                self.apply(decisions);
            }
        }
    }
}
