//! Objects of the program's that live as long as a graph needs them.
//!
//! # Safety
//!
//! The function that ends an object is called once, with the pointer that the program gave for it.

use core::ffi::{c_uint, c_void};
use std::sync::{Arc, Mutex};

use driver_api::abi::{CUgraph, CUhostFn, CUresult, CUuserObject};

use super::find;
use crate::entry::{answer, done};
use crate::launch::HostCall;
use crate::state::driver;
use crate::threads::lock;

/// An object, and how to end it.
#[derive(Debug)]
pub(crate) struct UserObject {
    handle: usize,
    call: HostCall,
    references: Mutex<u64>,
}

impl UserObject {
    fn retain(&self, count: u64) {
        let mut references = lock(&self.references);
        *references += count;
    }

    /// Gives up references; with the last one the object ends.
    fn release(&self, count: u64) -> Result<(), CUresult> {
        let mut references = lock(&self.references);
        *references = references
            .checked_sub(count)
            .ok_or(CUresult::INVALID_VALUE)?;
        if *references == 0 {
            drop(references);
            let _ = driver()?.user_objects.remove(self.handle);
            // In it no call of the driver's is allowed.
            self.call.perform();
        }
        Ok(())
    }
}

/// One reference, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct UserReference(Arc<UserObject>);

impl UserReference {
    pub(crate) fn handle(&self) -> usize {
        self.0.handle
    }
}

impl Drop for UserReference {
    fn drop(&mut self) {
        // It was taken before.
        let _ = self.0.release(1);
    }
}

/// Most references that one call takes or gives.
const MAX_REFERENCES: c_uint = 1 << 20;

fn counted(object: CUuserObject, count: c_uint) -> Result<Arc<UserObject>, CUresult> {
    if !(1..=MAX_REFERENCES).contains(&count) {
        return Err(CUresult::INVALID_VALUE);
    }
    driver()?.user_objects.get(object.0)
}

pub(crate) unsafe fn cuUserObjectCreate(
    object_out: *mut CUuserObject,
    ptr: *mut c_void,
    destroy: CUhostFn,
    initial_refcount: c_uint,
    flags: c_uint,
) -> CUresult {
    /// No call has to wait until the object has ended: the only kind that there is.
    const NO_DESTRUCTOR_SYNC: c_uint = 1;
    let make = || {
        let driver = driver()?;
        let function = destroy.ok_or(CUresult::INVALID_VALUE)?;
        if flags != NO_DESTRUCTOR_SYNC || !(1..=MAX_REFERENCES).contains(&initial_refcount) {
            return Err(CUresult::INVALID_VALUE);
        }
        let handle = driver.user_objects.reserve();
        let object = UserObject {
            handle,
            call: HostCall {
                function,
                user_data: ptr,
            },
            references: Mutex::new(initial_refcount.into()),
        };
        driver.user_objects.insert(handle, Arc::new(object));
        Ok(CUuserObject(handle))
    };
    if object_out.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(object_out, make()) }
}

pub(crate) unsafe fn cuUserObjectRetain(object: CUuserObject, count: c_uint) -> CUresult {
    done(counted(object, count).map(|object| object.retain(count.into())))
}

pub(crate) unsafe fn cuUserObjectRelease(object: CUuserObject, count: c_uint) -> CUresult {
    done(counted(object, count).and_then(|object| object.release(count.into())))
}

pub(crate) unsafe fn cuGraphRetainUserObject(
    graph: CUgraph,
    object: CUuserObject,
    count: c_uint,
    flags: c_uint,
) -> CUresult {
    /// The graph gets references that the caller has.
    const MOVE: c_uint = 1;
    let keep = || {
        let (graph, object) = (find(graph)?, counted(object, count)?);
        if flags > MOVE {
            return Err(CUresult::INVALID_VALUE);
        }
        if flags != MOVE {
            object.retain(count.into());
        }
        graph.keep((0..count).map(|_| Arc::new(UserReference(Arc::clone(&object)))));
        Ok(())
    };
    done(keep())
}

pub(crate) unsafe fn cuGraphReleaseUserObject(
    graph: CUgraph,
    object: CUuserObject,
    count: c_uint,
) -> CUresult {
    let release = || {
        let graph = find(graph)?;
        let has = graph.give_up(object.0, count as usize);
        has.then_some(()).ok_or(CUresult::INVALID_VALUE)
    };
    done(release())
}
