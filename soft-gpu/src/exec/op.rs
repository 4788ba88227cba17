//! The decoded operation.

use super::rows::Handler;

/// An operand: before register allocation a virtual register, afterwards the byte offset of its row in the frame.
pub(crate) type Row = u32;

/// No operand.
pub(crate) const NONE: Row = u32::MAX;

/// Who executes an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Its handler, for all active lanes.
    Straight,
    /// As `Straight`, and moves row `a` to row `d`. Only while decoding.
    Copy,
    /// Its handler, for the active lanes whose guard holds.
    Guarded,
    /// Its handler, once all lanes of the member mask in row `e` have arrived.
    Collective,
    /// Its handler; where the result in row `d` is false for a lane, others have their turn.
    Poll,
    /// Where diverged lanes may meet.
    Join,
    /// Jump to `link`.
    Branch,
    /// Jump to one of a list of targets by the index in row `a`.
    BranchTable,
    /// Return from a function, or end the thread when there is none to return to.
    Return,
    /// End the thread.
    Exit,
    /// Call site `link`. Row `e` is where the stack of the frame ends, where that changes.
    Call,
    /// Call site `link`, by the address in row `a`.
    CallPointer,
    /// A service of the host: site `link`.
    Service,
    /// Block barrier: number in row `a`, thread count in row `b`, predicate in row `c`.
    Barrier,
    /// An arrival at the barrier of the block's cluster.
    ClusterArrive,
    /// Until all of the cluster have arrived.
    ClusterWait,
    /// Where blocks may wait for each other, let others run: what was read may be what they are about to write.
    Yield,
    /// End the launch with a fault.
    Trap,
}

/// What `extra` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    Unused,
    Read,
    Written,
    /// `link` is the index of an [`OperandList`].
    List,
}

/// One operation, a cache line.
///
/// `d` is written and `a`, `b`, `c`, `e` are read, where present.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct Op {
    pub(crate) handler: Handler,
    pub(crate) immediate: i64,
    pub(crate) d: Row,
    pub(crate) a: Row,
    pub(crate) b: Row,
    pub(crate) c: Row,
    pub(crate) e: Row,
    pub(crate) extra: [Row; 4],
    pub(crate) guard: Row,
    /// Branch target, index of a call site, target list or operand list, or slot of the address cache.
    pub(crate) link: u32,
    pub(crate) kind: Kind,
    pub(crate) extra_role: Role,
    /// Elements of a vector access, or a variant that the handler knows.
    pub(crate) count: u8,
    /// Whether the guard is negated.
    pub(crate) negated: bool,
}

const _: () = assert!(size_of::<Op>() == 64);

impl Op {
    /// An operation with no operands.
    pub(crate) fn new(kind: Kind, handler: Handler) -> Op {
        Op {
            handler,
            immediate: 0,
            d: NONE,
            a: NONE,
            b: NONE,
            c: NONE,
            e: NONE,
            extra: [NONE; 4],
            guard: NONE,
            link: 0,
            kind,
            extra_role: Role::Unused,
            count: 1,
            negated: false,
        }
    }
}

/// A transfer of one element has no rows in `extra`: it holds what [`reuse`](super::decode) decides.
impl Op {
    /// Makes the op a candidate: `kind` tells accesses apart that cannot take over from each other.
    pub(crate) fn set_reusable(&mut self, kind: u32) {
        self.extra[2] = kind;
    }

    /// The kind of a candidate.
    pub(crate) fn reusable(&self) -> Option<u32> {
        let is_candidate = self.extra_role == Role::Unused && self.kind == Kind::Straight;
        (is_candidate && self.extra[2] != NONE).then_some(self.extra[2])
    }

    /// The slot that the op fills, or takes over from; [`NONE`] for neither.
    #[inline(always)]
    pub(crate) fn known_slot(&self) -> u32 {
        self.extra[0]
    }

    /// Sets the slot.
    pub(crate) fn set_known_slot(&mut self, slot: u32) {
        self.extra[0] = slot;
    }

    /// Whether the op takes over what an earlier one found.
    #[inline(always)]
    pub(crate) fn takes_over(&self) -> bool {
        self.extra[1] != NONE
    }

    /// Says that it does.
    pub(crate) fn set_takes_over(&mut self) {
        self.extra[1] = 1;
    }
}

/// Rows of an operation that has more of them than an [`Op`] holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct OperandList {
    pub(crate) reads: Vec<Row>,
    pub(crate) writes: Vec<Row>,
}
