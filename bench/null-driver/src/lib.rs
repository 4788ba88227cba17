//! A CUDA driver that does nothing, for measuring the way to a driver.
//!
//! What: a `libcuda.so.1` with one device that calls itself *null device (computes nothing)*. Loaded by a worker
//! (`gpu-server serve --driver …/libnull_driver.so`) or by a program directly, it answers every call at once. Why: what a benchmark
//! measures with it is the road alone, without any device's time. Rules:
//!
//! - Nothing is computed, and device memory does not exist: launches and copies succeed and move no byte, addresses
//!   of device memory are only numbers. Only pinned host memory is memory.
//! - A stream is always done. The one effect that a stream has is a write of a value into pinned memory, which happens at once:
//!   a worker learns from it that the stream has come so far.
//! - A kernel has the number of parameters that its name ends in (`null_4`: four), eight bytes each.
//! - What is not needed for that answers `CUDA_ERROR_NOT_SUPPORTED`.

pub mod exports;

mod capture;
mod context;
mod device;
mod entry;
mod event;
mod init;
mod launch;
mod memory;
mod module;
mod stream;
mod virtual_memory;

#[cfg(test)]
mod tests;
