//! What the executor's tests share: buffers in place of device memory, and launches on every path.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use soft_gpu::exec::{
    Allocations, Fault, Heap, HostServices, Launch, Path, Pool, Program, Statistics, Team, run,
};
use soft_gpu::ptx;

/// A kernel of a module, decoded for one path.
pub(crate) struct Kernel {
    pub(crate) program: Program,
    pub(crate) entry: ptx::Entry,
    pub(crate) path: Path,
}

/// Decodes `kernel` of `text` for every path of this machine.
pub(crate) fn kernels(text: &str, kernel: &str) -> Vec<Kernel> {
    kernels_with(text, kernel, &|_| None)
}

/// As [`kernels`], with addresses of variables.
pub(crate) fn kernels_with(
    text: &str,
    kernel: &str,
    addresses: &dyn Fn(&str) -> Option<u64>,
) -> Vec<Kernel> {
    kernels_of(&ptx::parse(text).expect("module parses"), kernel, addresses)
}

/// As [`kernels_with`], of a module that is parsed: functions have the same addresses in all its kernels.
pub(crate) fn kernels_of(
    module: &ptx::Module,
    kernel: &str,
    addresses: &dyn Fn(&str) -> Option<u64>,
) -> Vec<Kernel> {
    let entry = module.kernel(kernel).expect("kernel exists").clone();
    let decode = |path: &Path| Kernel {
        program: Program::decode_for(module, kernel, addresses, *path).expect("kernel decodes"),
        entry: entry.clone(),
        path: *path,
    };
    Path::available().iter().map(decode).collect()
}

/// A kernel argument.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument {
    U32(u32),
    U64(u64),
}

/// A launch in the making.
pub(crate) struct Run<'k> {
    pub(crate) kernel: &'k Kernel,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: u32,
    pub(crate) threads: usize,
    pub(crate) budget: Option<u64>,
    pub(crate) ranges: Vec<std::ops::Range<u64>>,
    pub(crate) teams: Vec<Team>,
    pub(crate) printed: Mutex<Vec<u8>>,
    pub(crate) heap: Option<Heap>,
    pub(crate) cooperative: bool,
    pub(crate) cluster: Option<[u32; 3]>,
    /// The values of opaque variables.
    pub(crate) references: HashMap<&'static str, u64>,
}

impl<'k> Run<'k> {
    pub(crate) fn new(kernel: &'k Kernel, grid: u32, block: u32) -> Run<'k> {
        Run {
            kernel,
            grid: [grid, 1, 1],
            block: [block, 1, 1],
            shared: 0,
            threads: 2,
            budget: Some(1 << 28),
            ranges: Vec::new(),
            teams: Vec::new(),
            printed: Mutex::default(),
            heap: None,
            cooperative: false,
            cluster: None,
            references: HashMap::new(),
        }
    }

    /// Makes `buffer` device memory and gives its address.
    pub(crate) fn buffer<T>(&mut self, buffer: &mut [T]) -> Argument {
        let start = buffer.as_mut_ptr() as u64;
        self.ranges.push(start..start + size_of_val(buffer) as u64);
        Argument::U64(start)
    }

    pub(crate) fn launch(&self, arguments: &[Argument]) -> Result<Statistics, Fault> {
        let mut params = vec![0u8; self.kernel.entry.param_bytes() as usize];
        for (param, argument) in self.kernel.entry.params.iter().zip(arguments) {
            let bytes = match argument {
                Argument::U32(value) => value.to_le_bytes().to_vec(),
                Argument::U64(value) => value.to_le_bytes().to_vec(),
            };
            let start = param.offset as usize;
            assert_eq!(bytes.len(), param.size as usize, "argument {}", param.name);
            params[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        let names = self.kernel.program.references();
        let value = |name: &String| self.references.get(name.as_str()).copied();
        let references: Vec<u64> = names.iter().map(|name| value(name).unwrap_or(0)).collect();
        let printf = |bytes: &[u8]| self.printed.lock().unwrap().extend_from_slice(bytes);
        let cancelled = AtomicBool::new(false);
        let host = HostServices {
            printf: &printf,
            operation_budget: self.budget,
            cancelled: &cancelled,
            heap: self.heap.as_ref(),
            keeps_scene: false,
        };
        let launch = Launch {
            program: &self.kernel.program,
            grid: self.grid,
            block: self.block,
            dynamic_shared_bytes: self.shared,
            params: &params,
            references: &references,
            cooperative: self.cooperative,
            cluster: self.cluster,
        };
        run(
            &Pool::new(self.threads),
            &launch,
            &Allocations::new(self.ranges.clone()).with_teams(self.teams.clone()),
            &host,
        )
    }
}
