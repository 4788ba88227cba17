//! Everything that the program has made: tables of objects, and where pushed completions find them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use client_shared::Table;
use driver_api::abi::CUresult;
use driver_api::wire::{RECALL_STREAM, TICKET_STREAM};

use crate::array::{Array, Mipmapped};
use crate::context::Context;
use crate::coredump;
use crate::event::Event;
use crate::graph::{Exec, GraphEntry, GraphMemory, NodeEntry, UserObject};
use crate::green::Green;
use crate::ipc::Imports;
use crate::launch::HostFunctions;
use crate::link::{Link, Sink};
use crate::linker::Linker;
use crate::memory::Memory;
use crate::module::{Function, Library, Module};
use crate::pool::{Pool, Pools};
use crate::stream::Stream;
use crate::virtual_memory::{Physical, VirtualMemory};

/// In a completion: the bit that says that the rest is a context's id, and its legacy stream is meant.
const LEGACY_OF_CONTEXT: u32 = 0x8000_0000;

/// The tables.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) contexts: Table<Context>,
    pub(crate) greens: Table<Green>,
    pub(crate) streams: Table<Stream>,
    pub(crate) events: Table<Event>,
    pub(crate) modules: Table<Module>,
    pub(crate) libraries: Table<Library>,
    pub(crate) functions: Table<Function>,
    pub(crate) links: Table<Linker>,
    pub(crate) memory: Memory,
    pub(crate) arrays: Table<Array>,
    pub(crate) mipmapped_arrays: Table<Mipmapped>,
    pub(crate) textures: Table<crate::texture::Object>,
    pub(crate) texture_names: crate::texture::Names,
    pub(crate) references: Table<crate::texture::reference::Reference>,
    pub(crate) imports: Imports,
    pub(crate) host_functions: HostFunctions,
    pub(crate) pools: Table<Pool>,
    pub(crate) stream_ordered: Pools,
    pub(crate) physical: Table<Physical>,
    pub(crate) virtual_memory: VirtualMemory,
    pub(crate) graphs: Table<GraphEntry>,
    pub(crate) graph_nodes: Table<NodeEntry>,
    pub(crate) graph_execs: Table<Exec>,
    pub(crate) graph_memory: GraphMemory,
    /// Graphs that the server's driver was to make. Held while one is sent, since the server has the parts of one at a time.
    pub(crate) graphs_sent: Mutex<u32>,
    pub(crate) user_objects: Table<UserObject>,
    /// Held while a module's texture or surface reference is looked up.
    pub(crate) references_asked: Mutex<()>,
}

impl Objects {
    /// The stream that a completion names.
    fn stream(&self, number: u32) -> Option<Arc<Stream>> {
        if number & LEGACY_OF_CONTEXT == 0 {
            return self.streams.get(number);
        }
        let context = self.contexts.get(number & !LEGACY_OF_CONTEXT)?;
        Some(Arc::clone(&context.legacy))
    }
}

/// What the link pushes completions and faults to.
pub(crate) struct Pushed(pub(crate) Arc<Objects>);

impl Sink for Pushed {
    fn completed(&self, stream: u32, mark: u64, result: CUresult) {
        if stream == TICKET_STREAM {
            return self.0.memory.unmapped(mark, result);
        }
        if stream == RECALL_STREAM {
            return self.0.memory.recall(mark);
        }
        // A stream that is gone has nobody who waits for it.
        let Some(stream) = self.0.stream(stream) else {
            return;
        };
        if !result.is_success() {
            stream.fault.set(result);
        }
        stream.reached(mark);
        if stream.is_finished_for_good() {
            self.0.streams.remove(stream.id);
        }
    }

    fn fault(&self, context: u32, result: CUresult, _text: &str) {
        if let Some(context) = self.0.contexts.get(context) {
            context.fault.set(result);
            context.legacy.fault.set(result);
            coredump::heard_of_fault(&context, result);
        }
        for stream in self.0.streams.select(|stream| stream.context == context) {
            stream.fault.set(result);
        }
    }

    fn has_errand(&self) -> bool {
        self.0.memory.is_recalled()
    }

    fn run_errand(&self, link: &Link) {
        // It fails where the connection is lost, which every call tells.
        let _ = self.0.memory.answer_recall(link);
    }
}

/// A sticky error: the first one stays.
#[derive(Debug, Default)]
pub(crate) struct Fault(AtomicU32);

impl Fault {
    /// Sets the error if there is none.
    pub(crate) fn set(&self, result: CUresult) {
        let _ = self.0.compare_exchange(0, result.0, SeqCst, SeqCst);
    }

    /// A primary context begins anew.
    pub(crate) fn clear(&self) {
        self.0.store(0, SeqCst);
    }

    /// The error as a result.
    pub(crate) fn check(&self) -> Result<(), CUresult> {
        CUresult(self.0.load(SeqCst)).ok()
    }

    /// True if there is one.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(SeqCst) != 0
    }
}

/// Numbers that are never given twice in a process, such as `cuCtxGetId`'s.
pub(crate) fn unique() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, SeqCst) + 1
}
