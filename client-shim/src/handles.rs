//! The handles that the program sees: the client's ids, dressed as distinct non-null values that point nowhere.
//!
//! `0x67_K_iiiiiiii_0`: a mark, the kind, the id, four zero bits. A handle of another kind, of another driver, or of nothing is
//! refused by its bits; whether the object still lives, its table knows.

use driver_api::abi::{
    CUarray, CUcontext, CUevent, CUfunction, CUgraph, CUgraphExec, CUgraphNode, CUgreenCtx,
    CUkernel, CUlibrary, CUlinkState, CUmemoryPool, CUmipmappedArray, CUmodule, CUresult, CUstream,
    CUsurfref, CUtexref, CUuserObject,
};
use driver_api::id::{ContextId, EventId, FunctionId, LibraryId, ModuleId, StreamId};

const MARK: usize = 0x67;

/// The kind of handles of the program's functions and of descriptors of resources, which are numbered together.
pub(crate) const UNTYPED: usize = 0;

/// A handle of this kind.
pub(crate) fn dress(kind: usize, id: u32) -> usize {
    MARK << 40 | kind << 36 | (id as usize) << 4
}

/// The id in a handle of this kind.
pub(crate) fn undress(kind: usize, value: usize) -> Option<u32> {
    let dressed = value >> 40 == MARK && value >> 36 & 0xF == kind && value & 0xF == 0;
    dressed.then_some((value >> 4 & 0xFFFF_FFFF) as u32)
}

/// A handle type of the program.
pub(crate) trait Handle: Sized + Copy {
    /// The type of its id on the wire.
    type Id;
    /// The handle of an id.
    fn dress(id: u32) -> Self;
    /// The id of a handle, by its bits alone.
    fn undress(self) -> Option<u32>;
    /// The id for a request: of a living object, of the calling thread where that matters.
    fn resolve(self) -> Result<Self::Id, CUresult>;
}

/// The id of a handle for a request: what generated code calls.
pub(crate) fn id<H: Handle>(handle: H) -> Result<H::Id, CUresult> {
    handle.resolve()
}

/// Of what never travels.
pub(crate) struct NoId;

macro_rules! handles {
    ($($handle:ident $kind:literal $id:ident $resolve:expr;)*) => {$(
        impl Handle for $handle {
            type Id = $id;
            fn dress(id: u32) -> Self {
                Self(dress($kind, id))
            }
            fn undress(self) -> Option<u32> {
                undress($kind, self.0)
            }
            fn resolve(self) -> Result<$id, CUresult> {
                $resolve(self)
            }
        }
    )*};
}

handles! {
    CUcontext 1 ContextId |handle| Ok(ContextId(crate::context::of(handle)?.id));
    CUstream 2 StreamId |handle| Ok(crate::stream::resolve(handle)?.wire_id());
    CUevent 3 EventId |handle| Ok(EventId(crate::event::of(handle)?.id));
    CUmodule 4 ModuleId |handle| Ok(ModuleId(crate::module::module_of(handle)?.id));
    CUfunction 5 FunctionId |handle| Ok(FunctionId(crate::module::function_of(handle)?.id));
    CUkernel 5 FunctionId |handle: CUkernel| Ok(FunctionId(crate::module::function_of(CUfunction(handle.0))?.id));
    CUlinkState 7 u32 |handle| Ok(crate::linker::link_of(handle)?.id);
    CUmemoryPool 9 u32 |handle| Ok(crate::pool::pool_of(handle)?.id);
    CUlibrary 6 LibraryId |handle| Ok(LibraryId(crate::module::library_of(handle)?.id));
    CUarray 8 u32 |handle| Ok(crate::array::array_of(crate::session::get()?, handle)?.wire_id);
    CUmipmappedArray 14 u32 |handle| Ok(crate::array::mipmapped_of(crate::session::get()?, handle)?.wire_id());
    CUtexref 15 NoId |_| Ok(NoId);
    CUsurfref 15 NoId |_| Ok(NoId);
    CUgraph 10 NoId |_| Ok(NoId);
    CUgraphNode 11 NoId |_| Ok(NoId);
    CUgraphExec 12 NoId |_| Ok(NoId);
    CUuserObject 13 NoId |_| Ok(NoId);
    CUgreenCtx 15 NoId |_| Ok(NoId);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_the_own_kind_undresses(id: u32, other: usize) {
            prop_assert_eq!(CUevent::dress(id).undress(), Some(id));
            prop_assert_eq!(CUstream(CUevent::dress(id).0).undress(), None);
            let value = CUevent(other);
            if let Some(id) = value.undress() {
                prop_assert_eq!(CUevent::dress(id), value);
            }
        }
    }
}
