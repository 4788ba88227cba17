//! What a worker may do: it gives up everything else before it believes a client.
//!
//! What: the daemon says which layers there are to be ([`plan()`], with what [`Offers`] says of the kernel); the worker enters them
//! (`enter`, then `close`). Why here: a driver is millions of lines that were not written for hostile input, and whoever takes one
//! worker over shall have that session and nothing else: no file, no memory, no connection of another tenant, of the daemon or of the
//! machine. Rules: a layer that the kernel does not have is said once, by the daemon, at its start; one that the settings require and that cannot
//! be had refuses the session; what is given up is never asked back.
//!
//! ```text
//! one thread:   cgroup ─> driver and its compilers loaded ─> user ─> privileges ─> Landlock      enter
//!               TLS, cuInit, contexts, RDMA: the driver's threads begin, and inherit all of that
//! all threads:  seccomp, which the kernel lays on each of them at once (TSYNC)                    close
//!               the answer to the hello, frames
//! ```
//!
//! *Why two steps:* before its ABI 8, Landlock binds the calling thread and those that it starts later, so it has to come before the driver
//! starts any; what the driver does only while it initialises (processes of its own, sockets) is refused from the second step on.

mod calls;
mod control_group;
mod daemon;
mod files;
mod libraries;
mod offers;
mod plan;
mod tenants;
mod user;

use std::io;
use std::path::PathBuf;

use protocol::hello::{RefusalCode, Refused, SandboxLayer, SandboxOrder, WorkerOrder, refusal};

pub use daemon::{Sandbox, SandboxError, hide};
pub use offers::Offers;
pub use plan::{Situation, Surroundings, plan};
pub use tenants::{Tenants, TenantsError};

/// Where the driver keeps what it compiled.
const CACHE_PATH: &str = "CUDA_CACHE_PATH";

/// Most bytes that it keeps there.
const CACHE_BYTES: &str = "CUDA_CACHE_MAXSIZE";

/// Whether it keeps nothing.
const NO_CACHE: &str = "CUDA_CACHE_DISABLE";

/// Why a layer is not there.
#[derive(Debug, thiserror::Error)]
enum LayerError {
    /// The operating system's refusal.
    #[error("{what}: {source}")]
    Io {
        /// Of what.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A path that cannot be named in a rule, or made.
    #[error("{}: {source}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Landlock's.
    #[error("Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// The kernel has none of it.
    #[error("this kernel has no {0}")]
    Absent(&'static str),
    /// A thread would stay outside.
    #[error("{0} threads run already")]
    Threads(usize),
    /// The filter of system calls.
    #[error("the filter: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// A thread that would not take it.
    #[error("thread {0} has a filter of its own")]
    Thread(i64),
}

impl LayerError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// What is asked of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Not,
    IfPossible,
    Required,
}

fn wanted(order: &SandboxOrder, layer: SandboxLayer) -> Wanted {
    if order.required().any(|required| required == layer) {
        Wanted::Required
    } else if order.layers().any(|wanted| wanted == layer) {
        Wanted::IfPossible
    } else {
        Wanted::Not
    }
}

/// Enters one layer, as far as it is asked for.
fn layer(
    order: &SandboxOrder,
    layer: SandboxLayer,
    enter: impl FnOnce() -> Result<(), LayerError>,
) -> Result<(), Refused> {
    let wanted = wanted(order, layer);
    if wanted == Wanted::Not {
        return Ok(());
    }
    match enter() {
        Ok(()) => Ok(()),
        Err(error) if wanted == Wanted::Required => {
            let message = format!(
                "this server confines its workers and could not confine this one ({}): {error}",
                name(layer)
            );
            Err(refusal(RefusalCode::Internal, message))
        }
        // The daemon has said it.
        Err(LayerError::Absent(what)) => {
            tracing::debug!("the worker goes on without {what}");
            Ok(())
        }
        Err(error) => {
            tracing::warn!("the worker is not confined by {}: {error}", name(layer));
            Ok(())
        }
    }
}

/// A layer in words.
const fn name(layer: SandboxLayer) -> &'static str {
    match layer {
        SandboxLayer::Unspecified => "nothing",
        SandboxLayer::User => "a user of its own",
        SandboxLayer::Privileges => "dropped privileges",
        SandboxLayer::Files => "Landlock",
        SandboxLayer::Calls => "seccomp",
        SandboxLayer::Group => "a control group",
    }
}

/// Enters what binds threads that begin later; the driver and what it loads later are loaded before. The worker has one thread yet.
///
/// # Errors
/// A layer that is required cannot be had.
pub(crate) fn enter(order: &WorkerOrder) -> Result<(), Refused> {
    let Some(sandbox) = &order.sandbox else {
        return Ok(());
    };
    layer(sandbox, SandboxLayer::Group, || {
        control_group::join(&sandbox.control_group)
    })?;
    libraries::load(&order.driver, order.device_kind());
    // Opened by who may open them.
    let opened = files::open(sandbox);
    set_cache(sandbox);
    layer(sandbox, SandboxLayer::User, || user::become_user(sandbox))?;
    user::end_with(order.parent)
        .map_err(|error| refusal(RefusalCode::Internal, error.to_string()))?;
    layer(sandbox, SandboxLayer::Privileges, user::drop_privileges)?;
    layer(sandbox, SandboxLayer::Files, || files::confine(opened))
}

/// Refuses the system calls that nobody needs from here on, to every thread.
///
/// # Errors
/// It is required and cannot be had.
pub(crate) fn close(order: &WorkerOrder) -> Result<(), Refused> {
    let Some(sandbox) = &order.sandbox else {
        return Ok(());
    };
    layer(sandbox, SandboxLayer::Calls, || {
        calls::refuse(sandbox.may_connect)
    })
}

/// Tells the driver where it may keep what it compiles for this tenant.
#[expect(unsafe_code, reason = "the environment is set before any thread runs")]
fn set_cache(order: &SandboxOrder) {
    let bytes = order.cache_bytes.to_string();
    let variables = match order.cache.as_str() {
        "" => vec![(NO_CACHE, "1")],
        cache => vec![(CACHE_PATH, cache), (CACHE_BYTES, bytes.as_str())],
    };
    for (name, value) in variables {
        // SAFETY: the worker has started no thread yet, and libraries' initialisers have returned.
        unsafe { std::env::set_var(name, value) };
    }
}

/// How many threads this process has.
fn threads() -> Result<usize, LayerError> {
    let tasks = std::fs::read_dir("/proc/self/task").map_err(LayerError::io("/proc/self/task"))?;
    Ok(tasks.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(layers: &[SandboxLayer], required: &[SandboxLayer]) -> SandboxOrder {
        SandboxOrder {
            layers: layers.iter().map(|layer| (*layer).into()).collect(),
            required: required.iter().map(|layer| (*layer).into()).collect(),
            ..SandboxOrder::default()
        }
    }

    #[test]
    fn a_layer_that_is_not_there_is_missed_only_where_it_is_required() {
        let files = SandboxLayer::Files;
        let absent = || Err(LayerError::Absent("Landlock"));
        let nothing = order(&[], &[]);
        let never = || panic!("entered unasked");
        assert!(layer(&nothing, files, never).is_ok());
        assert!(layer(&order(&[files], &[]), files, absent).is_ok());
        let refused = layer(&order(&[files], &[files]), files, absent).expect_err("refused");
        assert_eq!(
            refused.message,
            "this server confines its workers and could not confine this one (Landlock): this kernel has no Landlock"
        );
    }
}
