//! Frames: the rows of a function while lanes are in it.
//!
//! Frames of one function are kept for the next warp, since their constant rows stay good for the whole launch.
//!
//! # Safety
//!
//! A frame is as large as its function says, and row offsets come from the same decoder.
#![expect(unsafe_code, reason = "rows are reached through a frame pointer")]

use super::Launch;
use super::cluster::rank_in;
use super::program::{Fixed, FixedRow, Function, Special};
use super::rows::LANES;

/// A cache line of a frame.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct Line([u8; 128]);

/// The storage of one frame.
pub(crate) struct Storage {
    lines: Box<[Line]>,
}

impl Storage {
    /// Where its rows start.
    pub(crate) fn base(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }
}

/// Where a warp stands in its launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) block: [u32; 3],
    pub(crate) warp: u32,
}

/// Where blocks run, and what they share.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    pub(crate) multiprocessor: u32,
    pub(crate) multiprocessors: u32,
    /// The address of a cooperative launch's workspace; 0 for none.
    pub(crate) workspace: u64,
}

/// Unused frames by function.
pub(crate) struct Frames<'a> {
    launch: Launch<'a>,
    place: Place,
    /// The parameter buffer, zero-padded.
    params: &'a [u8],
    unused: Vec<Vec<Storage>>,
}

impl<'a> Frames<'a> {
    /// Frames for `launch`, whose parameters are at `params`.
    pub(crate) fn new(launch: Launch<'a>, place: Place, params: &'a [u8]) -> Frames<'a> {
        let unused = launch
            .program
            .code
            .functions
            .iter()
            .map(|_| Vec::new())
            .collect();
        Frames {
            launch,
            place,
            params,
            unused,
        }
    }

    /// Where its blocks run.
    pub(crate) fn multiprocessor(&self) -> u32 {
        self.place.multiprocessor
    }

    /// A frame of `function` for a warp, its fixed rows filled in. `local_base` is where its part of local
    /// memory starts.
    pub(crate) fn take(&mut self, function: u32, identity: Identity, local_base: u32) -> Storage {
        let layout = &self.launch.program.code.functions[function as usize];
        let storage = self.unused[function as usize].pop();
        let fresh = storage.is_none();
        let mut storage = storage.unwrap_or_else(|| Self::allocate(layout));
        for fixed in &layout.fixed {
            match fixed.value {
                Fixed::Special(Special::Block(dimension)) => {
                    fill(
                        &mut storage,
                        fixed,
                        u64::from(identity.block[usize::from(dimension)]),
                    );
                }
                Fixed::Special(special) if fresh || varies(special) => {
                    self.special(&mut storage, fixed, special, identity);
                }
                Fixed::Local(offset) => fill(&mut storage, fixed, u64::from(local_base + offset)),
                value if fresh => {
                    fill(&mut storage, fixed, self.constant(value, fixed.wide));
                }
                _ => {}
            }
        }
        storage
    }

    /// Takes back a frame.
    pub(crate) fn give_back(&mut self, function: u32, storage: Storage) {
        self.unused[function as usize].push(storage);
    }

    fn allocate(layout: &Function) -> Storage {
        let count = (layout.frame_bytes as usize)
            .div_ceil(size_of::<Line>())
            .max(1);
        Storage {
            lines: vec![Line([0; 128]); count].into_boxed_slice(),
        }
    }

    fn constant(&self, value: Fixed, is_wide: bool) -> u64 {
        match value {
            Fixed::Constant(bits) => bits,
            Fixed::ParamAddress(offset) if is_wide => {
                self.params.as_ptr() as u64 + u64::from(offset)
            }
            // In 32 bits, the place among the parameters, which `cvta` makes an address of.
            Fixed::ParamAddress(offset) => offset.into(),
            Fixed::Param {
                offset,
                bytes,
                signed,
            } => self.param(offset as usize, usize::from(bytes), signed),
            Fixed::Reference(index) => {
                let value = self.launch.references.get(index as usize);
                value.copied().unwrap_or(0)
            }
            Fixed::Special(_) | Fixed::Local(_) | Fixed::LocalEnd | Fixed::DynamicShared => 0,
        }
    }

    fn param(&self, offset: usize, bytes: usize, signed: bool) -> u64 {
        let mut word = [0u8; 8];
        let available = self.params.get(offset..).unwrap_or(&[]);
        let count = bytes.min(8).min(available.len());
        word[..count].copy_from_slice(&available[..count]);
        let value = u64::from_le_bytes(word);
        let unused_bits = 64 - 8 * bytes.clamp(1, 8) as u32;
        if signed {
            ((value << unused_bits) as i64 >> unused_bits) as u64
        } else {
            value
        }
    }

    fn special_of_lane(&self, special: Special, identity: Identity, lane: u32) -> u32 {
        let (block, cluster) = (self.launch.block, self.launch.cluster_size());
        let below = ((1u64 << lane) - 1) as u32;
        match special {
            Special::Thread(_) | Special::Block(_) | Special::GridId => 0,
            Special::Multiprocessor => self.place.multiprocessor,
            Special::MultiprocessorCount => self.place.multiprocessors,
            // The halves of an address, the high one first, as cooperative groups' headers read it.
            Special::Environment(1) => (self.place.workspace >> 32) as u32,
            Special::Environment(2) => self.place.workspace as u32,
            Special::Environment(_) => 0,
            Special::BlockSize(dimension) => block[usize::from(dimension)],
            Special::GridSize(dimension) => self.launch.grid[usize::from(dimension)],
            Special::Cluster(dimension) => {
                let dimension = usize::from(dimension);
                identity.block[dimension] / cluster[dimension]
            }
            Special::ClusterGridSize(dimension) => {
                let dimension = usize::from(dimension);
                self.launch.grid[dimension] / cluster[dimension]
            }
            Special::BlockInCluster(dimension) => {
                let dimension = usize::from(dimension);
                identity.block[dimension] % cluster[dimension]
            }
            Special::ClusterSize(dimension) => cluster[usize::from(dimension)],
            Special::ClusterRank => rank_in(cluster, identity.block),
            Special::ClusterBlocks => cluster.iter().product(),
            Special::IsExplicitCluster => u32::MAX * u32::from(self.launch.cluster.is_some()),
            Special::LaneId => lane,
            Special::WarpId => identity.warp,
            Special::WarpCount => (block[0] * block[1] * block[2]).div_ceil(LANES as u32),
            Special::MaskEqual => 1 << lane,
            Special::MaskLess => below,
            Special::MaskLessEqual => below | 1 << lane,
            Special::MaskGreaterEqual => !below,
            Special::MaskGreater => !(below | 1 << lane),
            Special::DynamicSharedBytes => self.launch.dynamic_shared_bytes,
            Special::TotalSharedBytes => {
                self.launch.program.code.static_shared + self.launch.dynamic_shared_bytes
            }
        }
    }

    fn special(
        &self,
        storage: &mut Storage,
        fixed: &FixedRow,
        special: Special,
        identity: Identity,
    ) {
        let block = self.launch.block;
        let lanes: [u32; LANES] = match special {
            Special::Thread(dimension) => {
                thread_indices(block, identity.warp, usize::from(dimension))
            }
            _ => std::array::from_fn(|lane| self.special_of_lane(special, identity, lane as u32)),
        };
        let place = storage.base().wrapping_add(fixed.row as usize);
        // SAFETY: the row lies in the frame and has the width that the decoder noted.
        unsafe {
            if fixed.wide {
                place.cast::<[u64; LANES]>().write(lanes.map(u64::from));
            } else {
                place.cast::<[u32; LANES]>().write(lanes);
            }
        }
    }
}

/// Whether a special register differs between the warps of a launch.
fn varies(special: Special) -> bool {
    matches!(
        special,
        Special::Thread(_)
            | Special::WarpId
            | Special::Cluster(_)
            | Special::BlockInCluster(_)
            | Special::ClusterRank
    )
}

/// One dimension of the indices of a warp's threads. Counts up, since divisions are slow.
fn thread_indices(block: [u32; 3], warp: u32, dimension: usize) -> [u32; LANES] {
    let first = warp * LANES as u32;
    if block[1] == 1 && block[2] == 1 {
        let step = u32::from(dimension == 0);
        return std::array::from_fn(|lane| step * (first + lane as u32));
    }
    let mut index = [
        first % block[0],
        first / block[0] % block[1],
        first / block[0] / block[1],
    ];
    let mut lanes = [0; LANES];
    for lane in &mut lanes {
        *lane = index[dimension];
        index[0] += 1;
        if index[0] == block[0] {
            index[0] = 0;
            index[1] += 1;
        }
        if index[1] == block[1] {
            index[1] = 0;
            index[2] += 1;
        }
    }
    lanes
}

/// The same bits in every lane of a row.
fn fill(storage: &mut Storage, fixed: &FixedRow, bits: u64) {
    let place = storage.base().wrapping_add(fixed.row as usize);
    // SAFETY: the row lies in the frame and has the width that the decoder noted.
    unsafe {
        if fixed.wide {
            place.cast::<[u64; LANES]>().write([bits; LANES]);
        } else {
            place.cast::<[u32; LANES]>().write([bits as u32; LANES]);
        }
    }
}
