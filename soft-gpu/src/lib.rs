//! A CUDA device made of CPU.
//!
//! The library is a driver: it exports what `libcuda.so.1` exports, and programs or a worker load it in that one's place.
//!
//! ```text
//! program ─▶ exports (generated) ─▶ entry ─▶ area: memory, stream, module, launch … ─▶ stream's queue ─▶ exec
//! ```
//!
//! The areas have the names of the specification's files. [`ptx`] turns PTX text into a typed module; [`exec`] decodes one
//! kernel of it and executes the kernel on the machine's cores, thirty-two lanes at a time. Memory of the device is memory of this
//! process; what several processes on one device share is in `shared`.

pub mod exec;
pub mod exports;
pub mod ptx;

mod array;
mod capture;
mod checkpoint;
mod config;
mod context;
mod coredump;
mod debug;
mod device;
mod entry;
mod event;
mod graph;
mod green;
mod handles;
mod hostile;
mod init;
mod ipc;
mod launch;
mod linker;
mod log;
mod managed;
mod memory;
mod module;
mod occupancy;
mod output;
mod peer;
mod pool;
mod profiler;
mod shared;
mod state;
mod stream;
mod tensor_map;
mod texture;
mod threads;
mod virtual_memory;
