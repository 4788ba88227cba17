//! What a dump holds: devices, contexts, modules, the grid that faulted, its block, warp and threads, and memory.
//!
//! The sections are those of `cudacoredump.h`, named and linked as there. This device has no registers, predicates and program counters of its own: sections of the first two are
//! missing, and a program counter is a line of the module's PTX. Images are PTX, in sections of our own (`.gpurun.ptx…`), since those of the header hold cubins; a
//! reader leaves out what it does not know. `.gpurun.fault` has the fault in words. Of the grid only the block and the warp that faulted are there: others have ended, or
//! have not begun.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use driver_api::coredump::{DumpFile, Settings, flags};

use super::elf::Sections;
use super::tables::{self, kind};
use crate::config::driver_version;
use crate::context::{Context, unique_id};
use crate::device::{self, Limits};
use crate::exec::{Fault, LOCAL_WINDOW, SHARED_WINDOW, Scene};
use crate::launch::Kernel;
use crate::memory::space::Kind;
use crate::state::Driver;

/// Lanes of a warp.
const LANES: u32 = 32;

/// A dump that is put together.
struct Dump<'a> {
    driver: &'a Driver,
    kernel: &'a Kernel,
    fault: &'a Fault,
    flags: u32,
    sections: Sections,
    /// The contexts that it is about.
    contexts: Vec<std::sync::Arc<Context>>,
}

/// Writes the dump of a kernel that has faulted.
pub(super) fn write(
    driver: &Driver,
    kernel: &Kernel,
    fault: &Fault,
    settings: &Settings,
    path: &Path,
) -> io::Result<()> {
    let mut file = DumpFile::create(path, settings.is_compressed())?;
    let own = kernel.function.module.context;
    let mut contexts = driver.contexts.all();
    contexts.sort_by_key(|context| context.id);
    if settings.flags() & flags::FAULTED_CONTEXTS_ONLY != 0 {
        contexts.retain(|context| context.handle == own || context.fate.status().is_err());
    }
    let mut dump = Dump {
        driver,
        kernel,
        fault,
        flags: settings.flags(),
        sections: Sections::new(),
        contexts,
    };
    dump.collect();
    let read = |address: u64, bytes: &mut [u8]| driver.memory.read(address, bytes);
    dump.sections.write(&mut file, read)?;
    file.finish()
}

impl Dump<'_> {
    fn skips(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn collect(&mut self) {
        self.meta();
        let devices = self.devices();
        for device in 0..self.driver.config.devices() {
            self.contexts_of(devices, device);
        }
        let grid = self.grid(devices);
        self.multiprocessor(devices, grid);
        let words = self.fault.to_string();
        let bytes = words.as_bytes();
        self.sections
            .bytes(".gpurun.fault", kind::BYTES, (0, 0), 0, bytes);
        if !self.skips(flags::SKIP_GLOBAL_MEMORY) {
            self.memory();
        }
    }

    fn meta(&mut self) {
        let generator = self.sections.string("gpurun software GPU");
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let version = driver_version();
        let row = tables::Meta {
            generator,
            cuda_major: version / 1000,
            cuda_minor: version % 1000 / 10,
            flags: self.flags,
            timestamp: now.map_or(0, |time| time.as_secs() as u32),
            ..tables::Meta::default()
        };
        self.sections
            .table(".cudbg.meta", kind::META, (0, 0), &[row]);
    }

    fn devices(&mut self) -> u32 {
        let config = &self.driver.config;
        let capability = config.capability;
        let limits = Limits::of(capability);
        let name = self.sections.string(device::NAME);
        let kind_name = self.sections.string("software");
        let architecture = self.sections.string(&format!("sm_{}", capability.sm()));
        let row = |device: usize| tables::Device {
            name,
            kind: kind_name,
            architecture,
            id: device as u32,
            pci_bus: device::pci_bus(device) as u32,
            multiprocessors: config.threads as u32,
            warps: limits.threads_per_multiprocessor / LANES,
            lanes: LANES,
            major: capability.major.into(),
            minor: capability.minor.into(),
            // A line.
            instruction_bytes: 1,
            ..tables::Device::default()
        };
        let rows: Vec<_> = (0..config.devices()).map(row).collect();
        self.sections
            .table(".cudbg.devtbl", kind::DEVICES, (0, 0), &rows)
    }

    /// The contexts of a device, and their modules.
    fn contexts_of(&mut self, devices: u32, device: usize) {
        let contexts = self.contexts.iter().filter(|it| it.device == device);
        let contexts: Vec<_> = contexts.cloned().collect();
        if contexts.is_empty() {
            return;
        }
        let rows: Vec<_> = contexts
            .iter()
            .map(|context| tables::Context {
                id: context.handle as u64,
                shared_window: SHARED_WINDOW,
                local_window: LOCAL_WINDOW,
                global_window: 0,
                device: device as u32,
                // The program's first thread: a context is no thread's.
                thread: std::process::id(),
            })
            .collect();
        let name = format!(".cudbg.ctxtbl.dev{device}");
        let parent = (devices, device as u32);
        let table = self.sections.table(&name, kind::CONTEXTS, parent, &rows);
        for (index, context) in contexts.iter().enumerate() {
            self.modules_of(table, (device, index), context.handle);
        }
    }

    fn modules_of(&mut self, contexts: u32, (device, index): (usize, usize), context: usize) {
        let mut modules = self.driver.modules.all();
        modules.retain(|module| module.context == context);
        modules.sort_by_key(|module| module.handle);
        if modules.is_empty() {
            return;
        }
        let row = |handle: usize| tables::Module {
            handle: handle as u64,
        };
        let rows: Vec<_> = modules.iter().map(|module| row(module.handle)).collect();
        let place = format!("dev{device}.ctx{index}");
        let name = format!(".cudbg.modtbl.{place}");
        let parent = (contexts, index as u32);
        let table = self.sections.table(&name, kind::MODULES, parent, &rows);
        if self.skips(flags::SKIP_NONRELOCATED_ELF_IMAGES) {
            return;
        }
        for (number, module) in modules.iter().enumerate() {
            let name = format!(".gpurun.ptx.{place}");
            let text = module.ptx.text().as_bytes();
            let parent = (table, number as u32);
            self.sections.bytes(&name, kind::BYTES, parent, 0, text);
        }
    }

    /// The line where the kernel's body begins.
    fn entry_line(&self) -> u32 {
        let function = &self.kernel.function;
        let entry = function.entry().ok();
        let body = entry.and_then(|entry| function.module.ptx.body(entry));
        body.map_or(0, |(_, line)| line)
    }

    /// The grid that faulted; its number in the dump.
    fn grid(&mut self, devices: u32) -> u64 {
        let (kernel, device) = (self.kernel, self.kernel.device);
        let id = unique_id();
        let registers = kernel.function.program();
        let row = tables::Grid {
            id,
            context: kernel.function.module.context as u64,
            function: kernel.function.handle as u64,
            function_entry: self.entry_line().into(),
            module: kernel.function.module.handle as u64,
            kernel_type: tables::APPLICATION,
            status: tables::ACTIVE,
            registers: registers.map_or(0, |program| program.attributes().registers),
            grid: kernel.shape.grid,
            block: kernel.shape.block,
            thread: std::process::id(),
            cluster: [1; 3],
            preferred_cluster: [1; 3],
            ..tables::Grid::default()
        };
        let name = format!(".cudbg.gridtbl.dev{device}");
        let parent = (devices, device as u32);
        let table = self.sections.table(&name, kind::GRIDS, parent, &[row]);
        if !self.skips(flags::SKIP_CONSTBANK_MEMORY) {
            let name = format!(".cudbg.param.dev{device}.grid0");
            let bytes = &kernel.parameters;
            self.sections
                .bytes(&name, kind::PARAMETERS, (table, 0), 0, bytes);
        }
        id
    }

    /// The multiprocessor that ran what faulted, and what was on it.
    fn multiprocessor(&mut self, devices: u32, grid: u64) {
        let (device, fault) = (self.kernel.device, self.fault);
        let scene = fault.scene.clone();
        let row = tables::Multiprocessor {
            id: scene.as_ref().map_or(0, |scene| scene.multiprocessor),
            exception: tables::exception(fault.kind),
            error_is_known: u32::from(fault.ptx_line != 0),
            error: fault.ptx_line.into(),
            ..tables::Multiprocessor::default()
        };
        let name = format!(".cudbg.smtbl.dev{device}");
        let parent = (devices, device as u32);
        let table = self
            .sections
            .table(&name, kind::MULTIPROCESSORS, parent, &[row]);
        if let Some(scene) = scene {
            self.block(table, grid, &scene);
        }
    }

    fn block(&mut self, multiprocessors: u32, grid: u64, scene: &Scene) {
        let place = format!("dev{}.sm0", self.kernel.device);
        let row = tables::Block {
            grid,
            index: self.fault.block,
            cluster_size: [1; 3],
            ..tables::Block::default()
        };
        let name = format!(".cudbg.ctatbl.{place}");
        let parent = (multiprocessors, 0);
        let table = self.sections.table(&name, kind::BLOCKS, parent, &[row]);
        if !self.skips(flags::SKIP_SHARED_MEMORY) {
            let name = format!(".cudbg.shared.{place}.cta0");
            let (parent, bytes) = ((table, 0), &scene.shared);
            self.sections
                .bytes(&name, kind::SHARED_MEMORY, parent, 0, bytes);
        }
        let row = tables::Warp {
            error: self.fault.ptx_line.into(),
            id: scene.warp,
            valid: scene.live,
            active: scene.active,
            error_is_known: u32::from(self.fault.ptx_line != 0),
            shared_bytes: scene.shared.len() as u32,
            ..tables::Warp::default()
        };
        let place = format!("{place}.cta0");
        let name = format!(".cudbg.wptbl.{place}");
        let table = self.sections.table(&name, kind::WARPS, (table, 0), &[row]);
        self.lanes(table, &format!("{place}.wp0"), scene);
    }

    fn lanes(&mut self, warps: u32, place: &str, scene: &Scene) {
        let [x, y, _] = self.kernel.shape.block;
        let line = self.fault.ptx_line;
        let from_entry = line.saturating_sub(self.entry_line());
        let lanes: Vec<u32> = (0..LANES)
            .filter(|lane| scene.live >> lane & 1 != 0)
            .collect();
        let row = |&lane: &u32| {
            let thread = scene.warp * LANES + lane;
            // Others that are not executing wait elsewhere, which nobody has written down.
            let is_here = scene.active >> lane & 1 != 0;
            tables::Lane {
                virtual_pc: if is_here { line.into() } else { 0 },
                physical_pc: if is_here { from_entry.into() } else { 0 },
                lane,
                thread: [thread % x, thread / x % y, thread / x / y],
                exception: match lane == scene.lane {
                    true => tables::exception(self.fault.kind),
                    false => 0,
                },
                ..tables::Lane::default()
            }
        };
        let rows: Vec<_> = lanes.iter().map(row).collect();
        let name = format!(".cudbg.lntbl.{place}");
        let table = self.sections.table(&name, kind::LANES, (warps, 0), &rows);
        if self.skips(flags::SKIP_LOCAL_MEMORY) || scene.local_stride == 0 {
            return;
        }
        for (index, lane) in lanes.iter().enumerate() {
            let name = format!(".cudbg.local.{place}.ln{index}");
            let (parent, bytes) = ((table, index as u32), scene.local_of(*lane as usize));
            self.sections
                .bytes(&name, kind::LOCAL_MEMORY, parent, 0, bytes);
        }
    }

    /// The devices' memory, as far as it is these contexts'.
    fn memory(&mut self) {
        let contexts: Vec<usize> = self.contexts.iter().map(|it| it.handle).collect();
        let is_its = |context: usize| context == 0 || contexts.contains(&context);
        let space = self.driver.memory.space();
        let mut ranges = Vec::new();
        for region in space.iter().filter(|region| is_its(region.context)) {
            let kind = match &region.kind {
                Kind::Managed { .. } => kind::MANAGED_MEMORY,
                Kind::Small(_) | Kind::Large(_) => kind::GLOBAL_MEMORY,
                Kind::Mapped { devices, .. } if !devices.is_empty() => kind::GLOBAL_MEMORY,
                // The host's memory, and other processes'.
                _ => continue,
            };
            ranges.push((kind, region.base, region.size));
        }
        drop(space);
        for (index, (kind, base, size)) in ranges.into_iter().enumerate() {
            let name = format!(".cudbg.global.{index}");
            self.sections.memory(&name, kind, base, size);
        }
    }
}
