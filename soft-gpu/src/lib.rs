//! A CUDA device made of CPU.
//!
//! [`ptx`] turns PTX text into a typed module; [`exec`] decodes one kernel of it and executes the kernel on the
//! machine's cores, thirty-two lanes at a time.

pub mod exec;
pub mod ptx;
