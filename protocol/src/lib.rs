//! How calls travel between a program and its worker: frames, hello, limits, transports, addresses.
//!
//! What: the wire protocol of `docs/protocol.md`, and all that both sides share around it. Why here: the
//! client library, the server, the launcher and the tests must agree on every byte and every limit. Rules:
//! standard threads only and no printing, because this runs inside other people's programs; nothing that a
//! peer sends can make it panic, or allocate or wait beyond [`limits`].
//!
//! ```text
//! address, config  where to go          frame    headers, records
//! connect          going there          bounded  reading without trusting
//! credentials      proving who asks
//! hello            the first words      limits   every maximum
//! nvml             what is read of devices
//! filter, size     what devices must be like, and sizes as people write them
//! transport        bytes across         stats    what a run counted
//! spin             waiting for bytes     choice   the cheaper of two ways
//! ```

pub mod address;
pub mod bounded;
pub mod choice;
pub mod config;
pub mod connect;
pub mod credentials;
pub mod filter;
pub mod frame;
pub mod hello;
pub mod limits;
pub mod nvml;
pub mod size;
pub mod spin;
pub mod stats;
pub mod transport;
