//! `libcuda.so.1` of a machine whose GPU is elsewhere.
//!
//! *What:* this library is loaded into a CUDA program in the place of NVIDIA's driver. It answers what it can by itself, posts or asks the
//! rest to a worker process on a GPU server, and delivers what comes back.
//!
//! *The road of a call:* an exported function (`exports`, generated from `driver-api/spec`) enters through `entry`; the area's
//! file (`memory`, `stream`, `launch` …) checks what can be checked here and hands a request to `session`; `link`
//! puts it into the one ordered queue of this process and sends it; replies, data and completions come back through the
//! same module.
//!
//! *Rules of a good guest:* the host program never sees a panic, a print that it did not ask for, a signal, or a hang without an owner that ends
//! it. Our threads block all signals. Nothing is connected at load time, but at the first call whose answer depends on the
//! server. After `fork` a child that inherits an initialised driver gets `CUDA_ERROR_NOT_INITIALIZED`. No thread-local has a destructor.

mod array;
mod capture;
mod checkpoint;
mod context;
mod coredump;
mod debug;
mod device;
mod entry;
mod event;
mod exports;
mod graph;
mod green;
mod handles;
mod init;
mod ipc;
mod launch;
mod link;
mod linker;
mod log;
mod managed;
mod memory;
mod module;
mod objects;
mod occupancy;
mod pool;
mod process;
mod profiler;
mod session;
mod stream;
mod tensor_map;
mod texture;
mod thread;
mod token;
mod virtual_memory;
