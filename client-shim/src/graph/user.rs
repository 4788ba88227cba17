//! Objects of the program that live as long as a graph needs them.
//!
//! An executable graph keeps what its graph kept; each launch keeps it until its stream has come behind the graph.

use core::ffi::{c_uint, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use driver_api::abi::{CUgraph, CUhostFn, CUresult, CUuserObject};

use super::model::find;
use crate::entry::code;
use crate::handles::Handle;
use crate::launch::HostCall;
use crate::memory::out;
use crate::session;

/// Most references that one call takes or gives.
const MAX_REFERENCES: c_uint = 1 << 20;
/// `CU_USER_OBJECT_NO_DESTRUCTOR_SYNC`, the only flag, which must be given.
const NO_DESTRUCTOR_SYNC: c_uint = 1;
/// `CU_GRAPH_USER_OBJECT_MOVE`: the graph gets references that the caller has.
const MOVE: c_uint = 1;

/// An object, and how to end it.
#[derive(Debug)]
pub(crate) struct UserObject {
    id: u32,
    call: HostCall,
    references: Mutex<u64>,
}

impl UserObject {
    fn retain(&self, count: u64) {
        *self
            .references
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += count;
    }

    /// Gives up references; with the last one the object ends.
    fn release(&self, count: u64) -> Result<(), CUresult> {
        let left = {
            let mut references = self
                .references
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let left = references.checked_sub(count);
            *references = left.ok_or(CUresult::INVALID_VALUE)?;
            *references
        };
        if left == 0 {
            session::get()?.objects.user_objects.remove(self.id);
            self.call.run();
        }
        Ok(())
    }
}

/// One reference, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct UserReference(Arc<UserObject>);

impl UserReference {
    /// The id of its object.
    pub(crate) fn object(&self) -> u32 {
        self.0.id
    }
}

impl Drop for UserReference {
    fn drop(&mut self) {
        // It was taken before, so there is one to give up.
        let _ = self.0.release(1);
    }
}

fn counted(handle: CUuserObject, count: c_uint) -> Result<Arc<UserObject>, CUresult> {
    let session = session::get()?;
    if !(1..=MAX_REFERENCES).contains(&count) {
        return Err(CUresult::INVALID_VALUE);
    }
    let object = handle
        .undress()
        .and_then(|id| session.objects.user_objects.get(id));
    object.ok_or(CUresult::INVALID_HANDLE)
}

pub(crate) unsafe fn cuUserObjectCreate(
    object_out: *mut CUuserObject,
    ptr: *mut c_void,
    destroy: CUhostFn,
    initial_refcount: c_uint,
    flags: c_uint,
) -> CUresult {
    code((|| {
        let place = out(object_out)?;
        let session = session::get()?;
        let call = HostCall::new(destroy, ptr)?;
        if flags != NO_DESTRUCTOR_SYNC || !(1..=MAX_REFERENCES).contains(&initial_refcount) {
            return Err(CUresult::INVALID_VALUE);
        }
        let object = session.objects.user_objects.insert_with(|id| UserObject {
            id,
            call,
            references: Mutex::new(initial_refcount.into()),
        });
        // SAFETY: checked by `out`.
        unsafe { place.write(CUuserObject::dress(object.id)) };
        Ok(())
    })())
}

pub(crate) unsafe fn cuUserObjectRetain(object: CUuserObject, count: c_uint) -> CUresult {
    code(counted(object, count).map(|object| object.retain(count.into())))
}

pub(crate) unsafe fn cuUserObjectRelease(object: CUuserObject, count: c_uint) -> CUresult {
    code(counted(object, count).and_then(|object| object.release(count.into())))
}

pub(crate) unsafe fn cuGraphRetainUserObject(
    graph: CUgraph,
    object: CUuserObject,
    count: c_uint,
    flags: c_uint,
) -> CUresult {
    code((|| {
        let (graph, object) = (find(graph)?, counted(object, count)?);
        match flags {
            0 => object.retain(count.into()),
            MOVE => {}
            _ => return Err(CUresult::INVALID_VALUE),
        }
        graph.keep((0..count).map(|_| Arc::new(UserReference(Arc::clone(&object)))));
        Ok(())
    })())
}

pub(crate) unsafe fn cuGraphReleaseUserObject(
    graph: CUgraph,
    object: CUuserObject,
    count: c_uint,
) -> CUresult {
    code((|| {
        let graph = find(graph)?;
        let object = object.undress().ok_or(CUresult::INVALID_HANDLE)?;
        let has = graph.give_up(object, count as usize);
        has.then_some(()).ok_or(CUresult::INVALID_VALUE)
    })())
}
