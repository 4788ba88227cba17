//! `libnvidia-ml.so.1` of a machine whose GPU is elsewhere: NVML for the programs that ask it.
//!
//! *What:* the functions that PyTorch, NCCL, XLA, pynvml, gpustat and nvitop call. Who the devices are comes from the daemon once, with `nvmlInit`;
//! how they are used comes from it anew when somebody asks and the last answer is older than a moment. Each time on a short connection of
//! its own; no worker is started, and nothing stays open. `docs/nvml.md` says what each function answers.
//!
//! *Rules:* as for the CUDA library beside it: no print, no panic into the program, nothing at load time, no wait beyond
//! [`CONNECT_TIMEOUT`]. Devices are the ones that CUDA shows this program, in its order. A value that the device does not have, or that is not
//! true at a distance, is `NVML_ERROR_NOT_SUPPORTED`, never invented. A function that nobody was seen to need is not exported: clients
//! expect that of older drivers. Valid in many threads, and in forked children without another `nvmlInit`.
//!
//! ```text
//! library   init, shutdown, versions     state    what is known, and until when
//! device    who a device is              link     asking the daemon
//! readings  sensors and counters         fork     what a child inherits
//! memory    processes    pci    links    answer   results through C pointers
//! peers     who reaches whose memory     layout   NVML's structures and codes
//! absent    what no device here has      node     the driver's device node
//! ```
//!
//! [`CONNECT_TIMEOUT`]: protocol::limits::CONNECT_TIMEOUT

mod absent;
mod answer;
mod device;
mod fork;
mod layout;
mod library;
mod link;
mod links;
mod memory;
mod node;
mod pci;
mod peers;
mod processes;
mod readings;
mod state;
