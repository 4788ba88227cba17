//! What belongs to each thread of the program: its number and its stack of contexts.
//!
//! Thread-locals without destructors, because CUDA calls come from exit handlers and from threads that are ending.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use driver_api::abi::CUresult;

/// The deepest stack of contexts.
const MAX_DEPTH: usize = 64;

struct Stack {
    ids: [u32; MAX_DEPTH],
    depth: usize,
}

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
    static STACK: RefCell<Stack> = const { RefCell::new(Stack { ids: [0; MAX_DEPTH], depth: 0 }) };
}

/// This thread's number on the wire, from 1.
pub(crate) fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    match NUMBER.get() {
        0 => {
            let number = NEXT.fetch_add(1, Relaxed);
            NUMBER.set(number);
            number
        }
        number => number,
    }
}

/// The id of the context on top of this thread's stack; 0 for none.
pub(crate) fn current() -> u32 {
    STACK.with_borrow(|stack| match stack.depth {
        0 => 0,
        depth => stack.ids[depth - 1],
    })
}

/// Replaces the top; 0 takes it off. On an empty stack a context is put on.
pub(crate) fn set_current(id: u32) {
    STACK.with_borrow_mut(|stack| {
        stack.depth = match (stack.depth, id) {
            (0, 0) => 0,
            (0, _) => 1,
            (depth, 0) => depth - 1,
            (depth, _) => depth,
        };
        if id != 0 {
            stack.ids[stack.depth - 1] = id;
        }
    });
}

/// Puts a context on top.
pub(crate) fn push(id: u32) -> Result<(), CUresult> {
    STACK.with_borrow_mut(|stack| {
        let slot = stack
            .ids
            .get_mut(stack.depth)
            .ok_or(CUresult::OUT_OF_MEMORY)?;
        *slot = id;
        stack.depth += 1;
        Ok(())
    })
}

/// Takes the top off.
pub(crate) fn pop() -> Option<u32> {
    STACK.with_borrow_mut(|stack| {
        stack.depth = stack.depth.checked_sub(1)?;
        Some(stack.ids[stack.depth])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_that_of_cuda() {
        std::thread::spawn(|| {
            assert_eq!((current(), pop()), (0, None));
            set_current(7);
            assert_eq!(current(), 7);
            push(8).expect("room");
            set_current(9);
            assert_eq!((pop(), current()), (Some(9), 7));
            set_current(0);
            assert_eq!(current(), 0);
        })
        .join()
        .expect("no panic");
    }
}
