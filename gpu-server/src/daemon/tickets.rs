//! Tickets: what was granted on an encrypted connection, until the session's own connection comes for it.
//!
//! Rules: a ticket is redeemed once, within [`LIFETIME`]; its name, which travels in the clear, says nothing of its proof, which the worker checks over
//! TLS; there are never more than [`MOST`], of one tenant [`MOST_OF_ONE`], and what nobody comes for is given back to who granted it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use protocol::hello::{TICKET_NAME_BYTES, TICKET_PROOF_BYTES};

use crate::pool::Tenant;

/// How long a ticket is good: a client connects again at once.
pub(super) const LIFETIME: Duration = Duration::from_secs(10);

/// Most tickets at a time.
pub(super) const MOST: usize = 256;

/// The clear part of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TicketName(pub(super) [u8; TICKET_NAME_BYTES]);

/// Both parts.
#[derive(Clone, Copy)]
pub(super) struct Secret {
    pub(super) name: TicketName,
    pub(super) proof: [u8; TICKET_PROOF_BYTES],
}

impl Secret {
    /// A secret that nobody can guess.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; TICKET_NAME_BYTES + TICKET_PROOF_BYTES];
        crate::authority::fill_random(&mut bytes)?;
        let (mut name, mut proof) = ([0; TICKET_NAME_BYTES], [0; TICKET_PROOF_BYTES]);
        name.copy_from_slice(&bytes[..TICKET_NAME_BYTES]);
        proof.copy_from_slice(&bytes[TICKET_NAME_BYTES..]);
        Ok(Self {
            name: TicketName(name),
            proof,
        })
    }

    /// As it goes to the client.
    pub(super) fn bytes(&self) -> Vec<u8> {
        [self.name.0, self.proof].concat()
    }
}

/// Most of one tenant: that it begins sessions and never comes for them keeps no other from beginning.
pub(super) const MOST_OF_ONE: usize = 64;

/// What was granted, by the ticket for it.
pub(super) struct Tickets<T> {
    granted: HashMap<TicketName, Kept<T>>,
}

struct Kept<T> {
    end: Instant,
    tenant: Tenant,
    granted: T,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self {
            granted: HashMap::new(),
        }
    }
}

impl<T> Tickets<T> {
    /// How many sessions are granted and have not begun.
    pub(super) fn len(&self) -> usize {
        self.granted.len()
    }

    /// Keeps what was granted to a tenant.
    ///
    /// # Errors
    /// What was granted, if there are too many.
    pub(super) fn keep(
        &mut self,
        name: TicketName,
        tenant: &Tenant,
        granted: T,
        now: Instant,
    ) -> Result<(), T> {
        let of_one = self.granted.values().filter(|kept| kept.tenant == *tenant);
        if self.granted.len() >= MOST || of_one.count() >= MOST_OF_ONE {
            return Err(granted);
        }
        let kept = Kept {
            end: now + LIFETIME,
            tenant: tenant.clone(),
            granted,
        };
        self.granted.insert(name, kept);
        Ok(())
    }

    /// What this ticket is for, once. One that comes too late stays, for [`Tickets::expire`] to tell who gets it back.
    pub(super) fn redeem(&mut self, name: TicketName, now: Instant) -> Option<T> {
        let kept = self.granted.get(&name)?;
        if now >= kept.end {
            return None;
        }
        Some(self.granted.remove(&name)?.granted)
    }

    /// Takes out what was granted to who may have it no longer.
    pub(super) fn withdraw(&mut self, is_theirs: impl Fn(&T) -> bool) -> Vec<T> {
        let theirs = self.granted.extract_if(|_, kept| is_theirs(&kept.granted));
        theirs.map(|(_, kept)| kept.granted).collect()
    }

    /// Takes out what nobody came for in time.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<T> {
        let expired = self.granted.extract_if(|_, kept| kept.end <= now);
        expired.map(|(_, kept)| kept.granted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(byte: u8) -> TicketName {
        TicketName([byte; TICKET_NAME_BYTES])
    }

    fn tenant(name: &str) -> Tenant {
        name.parse().expect("a tenant")
    }

    #[test]
    fn a_ticket_is_good_once_and_for_a_while() {
        let now = Instant::now();
        let ann = tenant("ann");
        let mut tickets = Tickets::default();
        for (number, granted) in [(1, "a"), (2, "b"), (3, "c")] {
            tickets
                .keep(name(number), &ann, granted, now)
                .expect("kept");
        }
        assert_eq!(tickets.redeem(name(1), now), Some("a"));
        assert_eq!(tickets.redeem(name(1), now), None, "a replay");
        assert_eq!(tickets.redeem(name(9), now), None, "another's");
        tickets.keep(name(4), &ann, "d", now).expect("kept");
        assert_eq!(tickets.withdraw(|granted| *granted == "d"), ["d"]);
        assert_eq!(tickets.redeem(name(4), now), None, "withdrawn");
        let late = now + LIFETIME;
        assert_eq!(tickets.expire(now), Vec::<&str>::new());
        assert_eq!(tickets.redeem(name(2), late), None, "too late");
        let mut expired = tickets.expire(late);
        expired.sort_unstable();
        assert_eq!(
            expired,
            ["b", "c"],
            "who comes too late has begun no session"
        );
        assert_eq!(tickets.len(), 0);
    }

    #[test]
    fn there_are_never_too_many() {
        let now = Instant::now();
        let mut tickets = Tickets::default();
        for number in 0..MOST {
            let secret = Secret::random().expect("random bytes");
            assert_ne!(secret.name.0, secret.proof);
            let tenant = tenant(&format!("t{}", number / MOST_OF_ONE));
            tickets.keep(secret.name, &tenant, 0, now).expect("kept");
        }
        assert_eq!(tickets.len(), MOST, "all different");
        assert_eq!(tickets.keep(name(1), &tenant("new"), 7, now), Err(7));
    }

    #[test]
    fn one_tenant_does_not_take_them_all() {
        let now = Instant::now();
        let mut tickets = Tickets::default();
        let greedy = tenant("greedy");
        for _ in 0..MOST_OF_ONE {
            let secret = Secret::random().expect("random bytes");
            tickets.keep(secret.name, &greedy, 0, now).expect("kept");
        }
        assert_eq!(tickets.keep(name(1), &greedy, 7, now), Err(7));
        assert_eq!(tickets.keep(name(1), &tenant("ann"), 7, now), Ok(()));
    }
}
