//! Instructions between the lanes of a warp and the warps of a block, and those that say where to go on.

pub(super) const LINES: &[&str] = &[
    // Without `.sync` as texts before version 6.4 have them.
    "shfl.sync?.up|down|bfly|idx.b32",
    "vote.sync?.all|any|uni.pred",
    "vote.sync?.ballot.b32",
    "match.any|all.sync.b32|b64",
    "redux.sync.add|min|max.u32|s32",
    "redux.sync.and|or|xor.b32",
    "activemask.b32",
    "elect.sync",
    "bar.warp.sync",
    "bar.cta?.sync|arrive",
    "bar.cta?.red.popc.u32",
    "bar.cta?.red.and|or.pred",
    "barrier.cta?.sync|arrive.aligned?",
    "barrier.cta?.red.popc.aligned?.u32",
    "barrier.cta?.red.and|or.aligned?.pred",
    "barrier.cluster.arrive.release|relaxed?.aligned?",
    "barrier.cluster.wait.acquire?.aligned?",
    "bra|call|ret.uni?",
    "brx.idx.uni?",
    "exit|trap|brkpt",
    "nanosleep.u32",
    "pmevent.mask?",
    "alloca|stacksave|stackrestore.u32|u64",
    // Without effect: nothing dependent is launched early, and registers are rows.
    "griddepcontrol.launch_dependents|wait",
    "setmaxnreg.inc|dec.sync.aligned.u32",
];
