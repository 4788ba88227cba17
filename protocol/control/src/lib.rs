//! The control plane: leases of devices, and what operators and users ask about them, as gRPC.
//!
//! What: the messages, the client and the server of `proto/pool.proto`, generated. Why a crate of its own: the library in front of a
//! program speaks only the hello and frames, and must not carry tonic and tokio into the program. Rules: what both the hello and
//! the pool speak of (devices, identities, servers) is the hello's type; units stand in the names.

#[expect(
    missing_docs,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/gpurun.pool.v1.rs"));
}

pub use generated::*;
