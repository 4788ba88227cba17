//! What a person types beside a program.
//!
//! Rules: each asks every configured server at once; who does not answer is said and passed over, if somebody does; tables are for people, `--json` for
//! programs.
//!
//! ```text
//! list     devices, and what is free    leases   who has what, and who waits   smi      how a lease is used
//! request  a lease without a program    stats    what tenants have used        health   what is not well
//! drain    no new leases                login    credentials           netperf  how fast the road is
//! ```

mod drain;
mod health;
mod leases;
mod list;
mod login;
mod netperf;
mod request;
mod smi;
mod stats;

use crate::arguments::{self, Options, Word};
use crate::exit::{Failure, USAGE};
use crate::text::print;

/// Does what a word says.
pub(crate) fn run(options: &Options, word: Word) -> Result<u8, Failure> {
    match word {
        Word::List { json } => list::list(options, json),
        Word::Login { bundle } => login::login(&bundle),
        Word::Request { need, time } => request::request(options, &need, time),
        Word::Release { lease } => request::release(options, &lease),
        Word::Renew { lease, time } => request::renew(options, &lease, time),
        Word::Leases { json } => leases::leases(options, json),
        Word::Smi { lease, json } => smi::smi(options, lease, json),
        Word::Stats { json } => stats::stats(options, json),
        Word::Health { json } => health::health(options, json),
        Word::Drain {
            revoke,
            time,
            undo,
            json,
        } => drain::drain(options, drain::Wanted { revoke, time, undo }, json),
        Word::Netperf { need, measured } => netperf::netperf(options, &need, &measured),
        Word::NetperfSession { options } => netperf::measure(&options),
        Word::NetperfProcess => netperf::serve(),
        Word::Completions { shell } => {
            print(String::from_utf8_lossy(&arguments::completions(shell)));
            Ok(0)
        }
        Word::Version => {
            print(format_args!(
                "gpurun {} (protocol {})",
                env!("CARGO_PKG_VERSION"),
                protocol::limits::NEWEST_VERSION
            ));
            Ok(0)
        }
        // The grammar makes runs of these.
        Word::Run | Word::Exec { .. } => Err(Failure::new(USAGE, "no program to run")),
    }
}
