//! Values that a forked child finds as new.
//!
//! *Why:* only the forking thread lives on in a child. A lock that another thread held at that moment stays locked there for ever, so what
//! the child needs must not be the parent's lock but a new one. *Rules:* [`Fresh::renew`] is called by the fork handler and nowhere else;
//! what was there before is leaked, since nobody can know who was in the middle of changing it.
//!
//! # Safety
//! The pointer is null or that of a leaked box, which is only shared and never freed.
#![expect(unsafe_code, reason = "a leaked box is found by its address")]

use std::sync::atomic::{AtomicPtr, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

/// A value made when it is first needed, and again in a child.
#[derive(Debug)]
pub struct Fresh<T: 'static>(AtomicPtr<T>);

impl<T: Default + Send + Sync + 'static> Fresh<T> {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// The value, made by whoever comes first; nobody waits for anybody.
    pub fn get(&self) -> &'static T {
        let known = self.0.load(Acquire);
        // SAFETY: null, or a leaked box.
        if let Some(value) = unsafe { known.as_ref() } {
            return value;
        }
        let made = Box::into_raw(Box::default());
        match self
            .0
            .compare_exchange(std::ptr::null_mut(), made, AcqRel, Acquire)
        {
            // SAFETY: our own box, leaked from now on.
            Ok(_) => unsafe { &*made },
            Err(other) => {
                // SAFETY: made above and shown to nobody.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: not null, so the leaked box of whoever was first.
                unsafe { &*other }
            }
        }
    }

    /// Leaves the value behind: the next who needs one makes it.
    pub fn renew(&self) {
        self.0.store(std::ptr::null_mut(), Release);
    }
}

impl<T: Default + Send + Sync + 'static> Default for Fresh<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::Fresh;

    #[test]
    fn a_lock_that_is_held_is_open_after_renewing() {
        static VALUE: Fresh<Mutex<u32>> = Fresh::new();
        let mut held = VALUE.get().lock().expect("no panic");
        *held = 7;
        assert!(VALUE.get().try_lock().is_err());
        VALUE.renew();
        assert_eq!(*VALUE.get().try_lock().expect("a new one"), 0);
        drop(held);
        assert!(std::ptr::eq(VALUE.get(), VALUE.get()));
    }
}
