//! What a warp leaves behind where it faulted, for who writes a core dump.

/// The block and the warp in which a fault happened, as they were then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// `%smid`
    pub multiprocessor: u32,
    /// The number of the warp in its block.
    pub warp: u32,
    /// The lane that faulted, the first one if several.
    pub lane: u32,
    /// Lanes that have not ended.
    pub live: u32,
    /// Lanes that were executing.
    pub active: u32,
    /// The block's shared memory.
    pub shared: Vec<u8>,
    /// Local memory of the warp's lanes, one after the other.
    pub local: Vec<u8>,
    /// Bytes of each lane's.
    pub local_stride: usize,
}

impl Scene {
    /// Local memory of a lane.
    pub fn local_of(&self, lane: usize) -> &[u8] {
        let start = lane * self.local_stride;
        self.local
            .get(start..start + self.local_stride)
            .unwrap_or_default()
    }
}
