//! Clusters: blocks that are there at the same time, reach each other's shared memory and have a barrier of their own.
//!
//! *What:* one thread runs a cluster, giving its blocks turns; so a cluster of any size needs one thread, and what its blocks do to each other's memory are
//! plain accesses. *Rules:* an address of shared memory has 32 bits. The lower [`RANK_SHIFT`] are an offset; the others are zero for the block itself, or
//! else one more than the rank of a block of its cluster. So every address of a block's own memory is one of its cluster too, as the PTX ISA has it.
//!
//! A block that is in no cluster is one of its own, and is run by its [`BlockRunner`] alone.

use super::block::BlockRunner;
use super::fault::Fault;
use super::{Launch, Unit};

/// Most blocks of a cluster.
pub const MAX_CLUSTER_BLOCKS: u32 = 16;
/// Bits of an offset in a block's shared memory.
pub(crate) const RANK_SHIFT: u32 = 24;

/// The offset in a block's memory that an address of shared memory says.
pub(crate) const fn offset_of(place: u64) -> u64 {
    place & ((1 << RANK_SHIFT) - 1)
}

/// The rank of the block that an address of shared memory names, unless it is the block itself.
pub(crate) const fn rank_of(place: u64) -> Option<u32> {
    ((place >> RANK_SHIFT) as u32 & 0xff).checked_sub(1)
}

/// The address of the same offset in the block of rank `rank`. A rank that no cluster has gives an address that leads nowhere.
pub(crate) const fn mapped(place: u64, rank: u32) -> u64 {
    let rank = if rank < 0xff { rank } else { 0xfe };
    offset_of(place) | (rank as u64 + 1) << RANK_SHIFT
}

/// The rank of a block in a cluster of this size.
pub(crate) fn rank_in(cluster: [u32; 3], block: [u32; 3]) -> u32 {
    let [x, y, z] = [0, 1, 2].map(|dimension: usize| block[dimension] % cluster[dimension]);
    x + cluster[0] * (y + cluster[1] * z)
}

/// The place of number `index` in a grid of this size.
fn place_in(grid: [u32; 3], index: u64) -> [u32; 3] {
    let grid = grid.map(u64::from);
    [
        index % grid[0],
        index / grid[0] % grid[1],
        index / grid[0] / grid[1],
    ]
    .map(|number| number as u32)
}

/// Runs clusters of one launch, one after the other, on one thread at a time.
pub(crate) struct ClusterRunner<'a> {
    size: [u32; 3],
    /// Clusters in each dimension.
    clusters: [u32; 3],
    blocks: Vec<Member<'a>>,
}

struct Member<'a> {
    runner: BlockRunner<'a>,
    has_ended: bool,
}

impl<'a> ClusterRunner<'a> {
    /// A runner for clusters of `launch`, with a block's runner for each of their blocks.
    pub(crate) fn new(
        launch: &Launch<'_>,
        make: &dyn Fn() -> BlockRunner<'a>,
    ) -> ClusterRunner<'a> {
        let size = launch.cluster_size();
        let member = |_| Member {
            runner: make(),
            has_ended: true,
        };
        let mut blocks: Vec<_> = (0..size.iter().product()).map(member).collect();
        let peers: Vec<u64> = blocks.iter().map(|it| it.runner.shared_start()).collect();
        for block in &mut blocks {
            block.runner.set_peers(peers.clone());
        }
        ClusterRunner {
            size,
            clusters: [0, 1, 2].map(|dimension: usize| launch.grid[dimension] / size[dimension]),
            blocks,
        }
    }

    /// Opens the barrier once every thread has arrived. Whether it did.
    fn open(&mut self) -> bool {
        let used = |block: &Member<'_>| !block.has_ended && block.runner.uses_cluster_barrier();
        let arrived = |block: &Member<'_>| block.has_ended || block.runner.has_arrived();
        let opens = self.blocks.iter().any(used) && self.blocks.iter().all(arrived);
        if opens {
            for block in &mut self.blocks {
                block.runner.open_cluster();
            }
        }
        opens
    }
}

impl Unit for ClusterRunner<'_> {
    fn begin(&mut self, index: u64) {
        let first = place_in(self.clusters, index);
        let size = self.size;
        for (rank, block) in (0..).zip(&mut self.blocks) {
            let inside = place_in(size, rank);
            let place = [0, 1, 2]
                .map(|dimension: usize| first[dimension] * size[dimension] + inside[dimension]);
            block.runner.begin_at(place);
            block.has_ended = false;
        }
    }

    fn round(&mut self, spent: &dyn Fn(u64) -> u64) -> Result<bool, Box<Fault>> {
        let (mut progress, mut has_ended) = (false, true);
        let mut all = self.executed();
        for block in self.blocks.iter_mut().filter(|block| !block.has_ended) {
            let others = all - block.runner.executed;
            let round = block
                .runner
                .give_turns(&|executed| spent(others + executed))?;
            all = others + block.runner.executed;
            block.has_ended = round.has_ended;
            has_ended &= round.has_ended;
            progress |= round.progress;
        }
        progress |= self.open();
        match self.blocks.iter().find(|block| !block.has_ended) {
            Some(stuck) if !progress => Err(stuck.runner.deadlock()),
            _ => Ok(has_ended),
        }
    }

    fn executed(&self) -> u64 {
        self.blocks.iter().map(|it| it.runner.executed).sum()
    }
}

/// A block that is alone.
impl Unit for BlockRunner<'_> {
    fn begin(&mut self, index: u64) {
        self.begin_at(place_in(self.grid(), index));
    }

    fn round(&mut self, spent: &dyn Fn(u64) -> u64) -> Result<bool, Box<Fault>> {
        let round = self.give_turns(spent)?;
        if round.has_ended {
            return Ok(true);
        }
        let mut progress = round.progress;
        if self.uses_cluster_barrier() && self.has_arrived() {
            self.open_cluster();
            progress = true;
        }
        match progress {
            true => Ok(false),
            false => Err(self.deadlock()),
        }
    }

    fn executed(&self) -> u64 {
        self.executed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_offset_and_rank() {
        assert_eq!((offset_of(0x1234), rank_of(0x1234)), (0x1234, None));
        for rank in 0..MAX_CLUSTER_BLOCKS {
            let place = mapped(0x38_fff8, rank);
            assert_eq!((offset_of(place), rank_of(place)), (0x38_fff8, Some(rank)));
            assert_eq!(mapped(place, 3), mapped(0x38_fff8, 3), "of any address");
        }
        assert!(rank_of(mapped(0, u32::MAX)).unwrap() >= MAX_CLUSTER_BLOCKS);
        assert!(mapped(u64::from(u32::MAX), u32::MAX) < 1 << 32);
    }

    #[test]
    fn ranks_count_through_a_cluster() {
        let size = [2, 3, 2];
        for rank in 0..12 {
            let inside = place_in(size, u64::from(rank));
            let block = [inside[0] + 4, inside[1] + 3, inside[2] + 8];
            assert_eq!(rank_in(size, block), rank);
        }
    }
}
