//! The client's names for what it creates: what travels instead of handles.
//!
//! A client numbers its contexts, streams, events, modules, functions and libraries itself, so that creating can be posted and no
//! pointer of the server is shown to a client or believed from one. The types keep the kinds apart.

macro_rules! ids {
    ($($(#[$documentation:meta])* $name:ident)*) => {$(
        $(#[$documentation])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub u32);
    )*};
}

ids! {
    /// A context; 0 is none.
    ContextId
    /// A stream; 0 is the legacy default stream of the call's context.
    StreamId
    /// An event.
    EventId
    /// A module.
    ModuleId
    /// A function, or a kernel: what can be launched.
    FunctionId
    /// A library.
    LibraryId
}
