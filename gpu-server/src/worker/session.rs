//! What the threads of one worker share.

use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use driver_api::Driver;
use driver_api::door::Door;
use driver_api::result::CUresult;

use super::array::Array;
use super::checkpoint::Checkpoints;
use super::context::Context;
use super::coredump::Coredumps;
use super::direct::Direct;
use super::end::{End, lock};
use super::event::Event;
use super::executor::Work;
use super::graph::Graphs;
use super::green::Greens;
use super::janitor::Job;
use super::launch::Gate;
use super::linker::Link;
use super::memory::{MAX_RANGES, Memory};
use super::mirrors::Mirrors;
use super::module::{Function, Library, Module};
use super::outbox::Outbox;
use super::output::{self, Output};
use super::pace::Pacer;
use super::poller::Poller;
use super::schedule::Lanes;
use super::stream::Stream;
use super::table::{
    MAX_ARRAYS, MAX_CONTEXTS, MAX_EVENTS, MAX_FUNCTIONS, MAX_GATES, MAX_LINKS, MAX_MODULES,
    MAX_STREAMS, Table,
};
use super::texture::{Object, Reference};
use super::transfer::Transfers;
use super::virtual_memory::Physical;
use super::words::Words;

/// The devices of a session.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    /// How many there are: ordinals are below.
    pub(crate) count: i32,
    /// Those whose primary context the start has retained, which the client's first retain takes over: making one takes a driver
    /// a tenth of a second and more.
    pub(crate) retained: Mutex<Vec<i32>>,
    /// Of each device, in order; none if they have no gates.
    pub(crate) pacers: Vec<Arc<Pacer>>,
    /// How many launches wait for their turn on lanes.
    pub(crate) waiting_on_lanes: AtomicUsize,
    /// Most bytes of their core dumps that the session may hold; 0: there are none.
    pub(crate) coredump_bytes: u64,
}

impl Devices {
    /// Checks an ordinal of the client.
    pub(crate) fn check(&self, device: i32) -> Result<(), CUresult> {
        if (0..self.count).contains(&device) {
            Ok(())
        } else {
            Err(CUresult::INVALID_DEVICE)
        }
    }

    /// The pace of a device's work.
    pub(crate) fn pacer(&self, device: i32) -> Option<Arc<Pacer>> {
        let device = usize::try_from(device).ok()?;
        self.pacers.get(device).cloned()
    }

    /// Whether the start has retained this device's primary context; it has not, from now on.
    pub(crate) fn take_retained(&self, device: i32) -> bool {
        let mut retained = lock(&self.retained);
        let place = retained.iter().position(|other| *other == device);
        place.map(|place| retained.swap_remove(place)).is_some()
    }
}

/// One client's session.
pub(crate) struct Session {
    pub(crate) driver: &'static Driver,
    pub(crate) devices: Devices,
    pub(crate) end: Arc<End>,
    /// What every call of the client goes through, and waits before while the session is suspended.
    pub(crate) door: Door,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) outbox: Outbox,
    /// Where the RDMA card reaches device memory.
    pub(crate) direct: Option<Direct>,
    pub(crate) contexts: Table<Arc<Context>>,
    pub(crate) streams: Table<Arc<Stream>>,
    pub(crate) events: Table<Event>,
    pub(crate) modules: Table<Module>,
    pub(crate) libraries: Table<Library>,
    pub(crate) functions: Table<Arc<Function>>,
    pub(crate) gates: Table<Gate>,
    pub(crate) arrays: Table<Arc<Array>>,
    pub(crate) textures: Table<Object>,
    pub(crate) references: Table<Reference>,
    pub(crate) physical: Table<Arc<Physical>>,
    pub(crate) links: Table<Arc<Link>>,
    pub(crate) graphs: Graphs,
    pub(crate) greens: Greens,
    pub(crate) coredumps: Coredumps,
    pub(crate) memory: Memory,
    pub(crate) mirrors: Mirrors,
    pub(crate) transfers: Transfers,
    pub(crate) poller: Poller,
    pub(crate) janitor: Sender<Job>,
    pub(crate) output: Output,
    pub(crate) lanes: Mutex<Lanes<Work>>,
    words: Words,
}

impl Session {
    pub(crate) fn new(
        driver: &'static Driver,
        devices: Devices,
        end: Arc<End>,
        (outbox, direct): (Outbox, Option<Direct>),
        memory: Memory,
        output: Output,
        janitor: Sender<Job>,
    ) -> Self {
        Self {
            driver,
            devices,
            end,
            door: Door::new(),
            checkpoints: Checkpoints::default(),
            outbox,
            direct,
            contexts: Table::new(MAX_CONTEXTS),
            streams: Table::new(MAX_STREAMS),
            events: Table::new(MAX_EVENTS),
            modules: Table::new(MAX_MODULES),
            libraries: Table::new(MAX_MODULES),
            functions: Table::new(MAX_FUNCTIONS),
            gates: Table::new(MAX_GATES),
            arrays: Table::new(MAX_ARRAYS),
            textures: Table::new(MAX_ARRAYS),
            references: Table::new(MAX_ARRAYS),
            physical: Table::new(MAX_RANGES),
            links: Table::new(MAX_LINKS),
            graphs: Graphs::default(),
            greens: Greens::default(),
            coredumps: Coredumps::default(),
            memory,
            mirrors: Mirrors::default(),
            transfers: Transfers::default(),
            poller: Poller::default(),
            janitor,
            output,
            lanes: Mutex::default(),
            words: Words::from_now(driver),
        }
    }

    /// Takes what belonged to a context out of the tables; its driver handles are about to die with it. It is current.
    pub(crate) fn forget_context(&self, serial: u64) {
        let is_elsewhere = |stream: &Arc<Stream>| {
            stream
                .context()
                .is_some_and(|context| context.serial != serial)
        };
        self.streams.retain(is_elsewhere);
        self.events.retain(|event| event.context != serial);
        self.links.retain(|link| link.context != serial);
        self.mirrors.forget_context(self, serial);
        self.memory.shared.forget_context(serial);
        self.gates.retain(|gate| gate.context != serial);
        self.textures.retain(|texture| texture.context != serial);
        self.references
            .retain(|reference| reference.context != serial);
        self.modules.retain(|module| module.context != serial);
        self.functions
            .retain(|function| function.context != Some(serial));
    }

    /// Tells the client that something failed that it does not wait for: its context is lost, or a posted call was refused.
    pub(crate) fn fault(&self, context: &Context, result: CUresult, what: &str) {
        if result.is_sticky() {
            context.tell_fault_once(|| {
                output::flush_lost(self, context);
                self.send_fault(context, result, what);
            });
        } else {
            self.send_fault(context, result, what);
        }
    }

    fn send_fault(&self, context: &Context, result: CUresult, what: &str) {
        let words = self.words.take(self.driver);
        tracing::error!(context = context.id, %result, what, words, "failed");
        let text = match words.is_empty() {
            true => format!("{what}: {result}"),
            false => format!("{what}: {result}: {words}"),
        };
        self.outbox.fault(context.id, result, &text);
    }
}
