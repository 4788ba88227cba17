//! What a process shows of how it is suspended, and where others ask it to be; see [`crate::checkpoint`].
//!
//! *Rule:* what a place says counts only while its process lives, and a number of a process only within the reader's own namespace of them: who then asks for anything
//! compares it with what the kernel says.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use driver_api::abi::CUresult;

use super::usage::View;
use super::{Layout, MAX_PROCESSES, Segment};
use crate::config::Config;
use crate::ipc::Token;
use crate::state::{driver, while_uninitialised};

/// In a process's place.
#[repr(C)]
pub(super) struct Shown {
    /// As `CUprocessState` numbers them.
    state: AtomicU32,
    /// The thread that answers; 0: none.
    thread: AtomicU32,
    /// What names its socket.
    token: [AtomicU64; 2],
}

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suspension {
    pub(crate) state: u32,
    /// The thread that answers, if there is one.
    pub(crate) thread: Option<u32>,
    /// What names its socket, likewise.
    pub(crate) token: Option<Token>,
}

impl Shown {
    pub(super) fn clear(&self) {
        self.thread.store(0, Ordering::Relaxed);
        self.state.store(0, Ordering::Relaxed);
    }

    fn read(&self) -> Suspension {
        // Written last.
        let thread = Some(self.thread.load(Ordering::Acquire)).filter(|thread| *thread != 0);
        let mut token = Token::default();
        for (bytes, word) in token.chunks_exact_mut(8).zip(&self.token) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        Suspension {
            state: self.state.load(Ordering::Acquire),
            thread,
            token: thread.map(|_| token),
        }
    }
}

impl Segment {
    /// Shows this process's state.
    pub(crate) fn show_state(&self, state: u32) {
        let shown = &self.place(self.place).suspension;
        shown.state.store(state, Ordering::Release);
    }

    /// Shows where this process answers.
    pub(crate) fn show_service(&self, token: &Token, thread: u32) {
        let shown = &self.place(self.place).suspension;
        for (word, bytes) in shown.token.iter().zip(token.chunks_exact(8)) {
            let bytes = bytes.try_into().unwrap_or_default();
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        shown.thread.store(thread, Ordering::Release);
    }
}

fn find(layout: &Layout, process: u32, is_alive: impl Fn(usize) -> bool) -> Option<Suspension> {
    let mut places = (0..MAX_PROCESSES).map(|place| (place, &layout.places[place]));
    let is_it = |(place, entry): &(usize, &super::Place)| {
        entry.process.load(Ordering::Relaxed) == process && is_alive(*place)
    };
    places.find(is_it).map(|(_, entry)| entry.suspension.read())
}

/// What a process of this device shows, also to one that has not initialised the driver.
///
/// # Errors
///
/// INVALID_VALUE: there is no such process.
pub(crate) fn suspension_of(process: u32) -> Result<Suspension, CUresult> {
    if process == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let look = || {
        let view = View::open(&Config::from_environment().segment).ok()?;
        let view = Some(view).filter(View::is_ours)?;
        find(view.layout(), process, |place| view.is_alive(place))
    };
    let inside = || {
        let segment = &driver().ok()?.segment;
        find(segment.layout(), process, |place| segment.is_alive(place))
    };
    // Closing the view would give back the record locks of a process that has a place itself.
    let found = while_uninitialised(look).unwrap_or_else(inside);
    found.ok_or(CUresult::INVALID_VALUE)
}

#[cfg(test)]
mod tests {
    use driver_api::checkpoint::state;

    use super::*;

    #[test]
    fn what_is_shown_is_read_and_gone_with_the_place() {
        let name = format!("gpurun-test-suspension-{}", std::process::id());
        let segment = Segment::attach(&name, 100).unwrap();
        let own = || {
            find(segment.layout(), std::process::id(), |place| {
                place == segment.place
            })
        };
        let shown = own().unwrap();
        assert_eq!(
            (shown.state, shown.thread, shown.token),
            (state::RUNNING, None, None)
        );
        segment.show_service(&[7; 16], 99);
        segment.show_state(state::LOCKED);
        let shown = own().unwrap();
        assert_eq!(
            (shown.state, shown.thread, shown.token),
            (state::LOCKED, Some(99), Some([7; 16]))
        );
        assert_eq!(find(segment.layout(), std::process::id(), |_| false), None);
        segment.place(segment.place).clear(1);
        let cleared = find(segment.layout(), 1, |place| place == segment.place).unwrap();
        assert_eq!((cleared.state, cleared.token), (state::RUNNING, None));
        std::fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    }
}
