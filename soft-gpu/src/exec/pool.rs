//! Persistent threads that execute blocks.

/// The threads of the device. Cheap to keep; launches of several streams can run on one pool at a time.
#[derive(Debug)]
pub struct Pool {
    threads: usize,
}

impl Pool {
    /// A pool of `threads` threads, counting the one that calls [`super::run`].
    pub fn new(threads: usize) -> Pool {
        Pool {
            threads: threads.max(1),
        }
    }

    /// A pool as wide as the machine.
    pub fn of_machine() -> Pool {
        Pool::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// How many threads execute a launch at most.
    pub fn threads(&self) -> usize {
        self.threads
    }
}
