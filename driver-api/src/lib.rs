//! The CUDA driver API as one table.
//!
//! *What:* every function of the driver has a row in `spec/<area>.rs`: its signature, its number on the wire, how a client answers it, whether it may
//! block, since which driver version it exists. `generator/` turns the table into code: here the row table, the request and reply types
//! and the table of a loaded driver's functions; in `client-shim`, `gpu-server` and `soft-gpu` the exports and the dispatch.
//!
//! *Beside it:* the driver's ABI types ([`abi`]) and result codes ([`result`]), the search of `cuGetProcAddress`
//! ([`proc_address`]), the formats of module images ([`image`]), stream memory operations ([`stream_memory`]), the
//! shapes of arrays ([`mod@array`]) and the copies from and to them ([`volume`]), texture objects ([`texture`]), tensor maps ([`tensor_map`]), graphs as they travel ([`device_graph`]),
//! checkpoints of processes ([`checkpoint`]) and what suspends them ([`door`]), and the private export tables
//! ([`private_tables`]): what two of the three need.
//!
//! *Rules:* nothing is said twice; the generator never branches on a function's name; what travels is pinned by `wire.lock`.

pub mod abi;
pub mod array;
pub mod checkpoint;
pub mod copy_batch;
pub mod copy_layout;
pub mod coredump;
pub mod dev_resource;
pub mod device_graph;
pub mod door;
pub mod error_log;
pub mod event_records;
pub mod fresh;
pub mod graph_layout;
pub mod graph_memory;
pub mod id;
pub mod image;
pub mod launch_state;
pub mod link_options;
pub mod log_callbacks;
pub mod managed;
pub mod mirror;
pub mod per_thread;
pub mod private_tables;
pub mod proc_address;
pub mod result;
pub mod soft_usage;
pub mod stream_attribute;
pub mod stream_memory;
pub mod tensor_map;
pub mod texture;
pub mod volume;
pub mod wire;

mod generated;
mod table;

pub use generated::{Driver, PROCEDURES, ROWS, index, number};
pub use table::{Blocks, Disposition, Export, Procedure, Row};
