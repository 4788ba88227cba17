//! Asynchronous operations between the blocks of a cluster: arrivals, words and copies that a barrier of another block is told of, copies to several blocks at
//! once; and what they do wrong.

mod support;

use soft_gpu::exec::{Fault, FaultKind};
use support::{Argument, Kernel, Run, kernels};

/// Blocks of a cluster, and threads of each.
const BLOCKS: u32 = 4;
const THREADS: u32 = 32;

/// A kernel `k` of `body`, whose blocks have a barrier that waits for `arrivals` and a tile of 512 bytes. `%near` and `%far` are the tile and the barrier of
/// the next block, `%gnear` and `%gfar` their generic addresses; thread 0 has `%first`.
fn module(arrivals: u32, body: &str) -> String {
    format!(
        ".version 8.6\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out, .param .u32 blocks)\n{{\n\
         .shared .align 128 .b8 tile[512]; .shared .align 128 .b8 more[512]; .shared .align 8 .b64 bar;\n\
         .reg .b32 %tid, %rank, %size, %next, %near, %far, %mine, %x, %y; .reg .b64 %in, %out, %gnear, %gfar, %w, %v, %to; .reg .pred %p, %first; .reg .b16 %mask;\n\
         mov.u32 %tid, %tid.x; mov.u32 %rank, %cluster_ctarank; ld.param.u32 %size, [blocks];\n\
         ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; setp.eq.u32 %first, %tid, 0;\n\
         add.u32 %next, %rank, 1; rem.u32 %next, %next, %size; mov.u32 %near, tile; mov.u32 %far, bar;\n\
         mapa.shared::cluster.u32 %near, %near, %next; mapa.shared::cluster.u32 %far, %far, %next;\n\
         cvt.u64.u32 %gnear, %near; cvta.shared::cluster.u64 %gnear, %gnear; cvt.u64.u32 %gfar, %far; cvta.shared::cluster.u64 %gfar, %gfar;\n\
         mov.u32 %mine, tile; mad.lo.u32 %mine, %tid, 16, %mine; mov.b64 %w, 0; st.shared.v2.b64 [%mine], {{%w, %w}};\n\
         @%first mbarrier.init.shared::cta.b64 [bar], {arrivals};\n\
         fence.mbarrier_init.release.cluster; barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;\n\
         {body}\nbarrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;\nret;\n}}\n"
    )
}

/// Waits for the barrier, and stores the block's tile.
const SHOW: &str = "WAIT: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p, [bar], 0; @!%p bra WAIT;
    mad.lo.u32 %x, %rank, 32, %tid; mad.wide.u32 %to, %x, 16, %out; ld.shared.v2.b64 {%w, %v}, [%mine]; st.global.v2.b64 [%to], {%w, %v};";

/// What the kernel makes of a page of a word for each eight bytes, with one thread of the machine and with two.
fn launch(kernel: &Kernel, out: &mut [u64]) -> Result<Vec<u64>, Fault> {
    let mut page: Vec<u128> = (0..256u128)
        .map(|word| (word * 0x1_0003) | ((word + 7) << 80))
        .collect();
    let words = page.iter().flat_map(|it| [*it as u64, (*it >> 64) as u64]);
    let words: Vec<u64> = words.collect();
    let mut run = Run::new(kernel, BLOCKS * 2, THREADS);
    run.cluster = Some([BLOCKS, 1, 1]);
    let arguments = [
        run.buffer(&mut page),
        run.buffer(out),
        Argument::U32(BLOCKS),
    ];
    run.launch(&arguments)?;
    Ok(words)
}

/// What each block's tile must hold: of the two clusters, the last one that wrote has the same.
fn shows(arrivals: u32, body: &str, want: impl Fn(&[u64], usize) -> Vec<u64>) {
    for kernel in kernels(&module(arrivals, &format!("{body}\n{SHOW}")), "k") {
        let mut out = vec![0u64; 64 * BLOCKS as usize];
        let page = launch(&kernel, &mut out)
            .unwrap_or_else(|fault| panic!("{fault} of {body} on {:?}", kernel.path));
        for (rank, tile) in out.chunks_exact(64).enumerate() {
            assert_eq!(tile, want(&page, rank), "{body} in block {rank}");
        }
    }
}

fn before(rank: usize) -> usize {
    (rank + BLOCKS as usize - 1) % BLOCKS as usize
}

#[test]
fn words_reach_the_next_block_and_its_barrier() {
    // Each thread sends two words; the block itself says how many come.
    let ways = [
        (
            "@%first mbarrier.arrive.expect_tx.shared::cta.b64 %w, [bar], 512;",
            "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b64 [%x], {%w, %v}, [%far];",
        ),
        // The sender says it.
        (
            "@%first mbarrier.arrive.expect_tx.relaxed.cluster.shared::cluster.b64 _, [%far], 512;",
            "st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [%x], %w, [%far]; st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [%x+8], %v, [%far];",
        ),
    ];
    for (expect, send) in ways {
        let body = format!(
            "{expect}\nmad.lo.u32 %x, %tid, 16, %near; cvt.u64.u32 %w, %rank; mad.wide.u32 %v, %tid, 100, %w;\n{send}"
        );
        shows(1, &body, |_, rank| {
            let from = before(rank) as u64;
            (0..32)
                .flat_map(|thread| [from, thread * 100 + from])
                .collect()
        });
    }
}

#[test]
fn every_thread_of_a_cluster_arrives_at_a_barrier_of_one_block() {
    let body = "mov.u32 %x, bar; mapa.shared::cluster.u32 %x, %x, 0; mov.u32 %y, tile; mapa.shared::cluster.u32 %y, %y, 0; mad.lo.u32 %y, %tid, 16, %y;
        red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u64 [%y], 3, [%x];
        setp.eq.and.u32 %p, %rank, 0, %first; @%p mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 1024;
        mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%x];
        setp.ne.u32 %p, %rank, 0; @%p bra END;\n";
    let body = format!("{body}{SHOW}\nEND:");
    for kernel in kernels(&module(THREADS * BLOCKS, &body), "k") {
        let mut out = vec![0u64; 64 * BLOCKS as usize];
        launch(&kernel, &mut out).unwrap();
        let want: Vec<u64> = (0..32).flat_map(|_| [u64::from(BLOCKS) * 3, 0]).collect();
        assert_eq!(out[..64], want);
    }
}

#[test]
fn copies_reach_other_blocks() {
    let expect = "@%first mbarrier.arrive.expect_tx.shared::cta.b64 %w, [bar], 512;";
    // From device memory to the next block.
    let body = format!(
        "{expect}\nmad.wide.u32 %w, %rank, 512, %in; @%first cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%near], [%w], 512, [%far];"
    );
    shows(1, &body, |page, rank| {
        page[before(rank) * 64..][..64].to_vec()
    });
    // From a block's own memory.
    let body = format!(
        "{expect}\nmov.u32 %y, more; mad.lo.u32 %y, %tid, 16, %y; cvt.u64.u32 %w, %rank; cvt.u64.u32 %v, %tid; st.shared.v2.b64 [%y], {{%w, %v}}; bar.sync 0;\n\
         mov.u32 %y, more; @%first cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%near], [%y], 512, [%far];"
    );
    shows(1, &body, |_, rank| {
        (0..32)
            .flat_map(|thread| [before(rank) as u64, thread])
            .collect()
    });
}

#[test]
fn a_copy_reaches_the_blocks_of_a_mask() {
    // Each block fetches a quarter for all of them.
    let body = "@%first mbarrier.arrive.expect_tx.shared::cta.b64 %w, [bar], 512;
        shl.b32 %x, %rank, 7; cvt.u64.u32 %w, %x; add.u64 %w, %in, %w; mov.u32 %y, tile; add.u32 %y, %y, %x; mov.b16 %mask, 15; mov.u32 %x, bar;
        @%first cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%y], [%w], 128, [%x], %mask;";
    shows(1, body, |page, _| page[..64].to_vec());
    // Two of them alone.
    let body = "setp.eq.and.u32 %p, %rank, 1, %first; @%p mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 256; setp.eq.and.u32 %p, %rank, 3, %first; @%p mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 256;
        mov.u32 %y, tile; mov.b16 %mask, 10; mov.u32 %x, bar; setp.eq.and.u32 %p, %rank, 2, %first;
        @%p cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%y], [%in], 256, [%x], %mask;
        @%first mbarrier.arrive.shared::cta.b64 %w, [bar];";
    shows(1, body, |page, rank| match rank {
        1 | 3 => [&page[..32], &[0; 32]].concat(),
        _ => vec![0; 64],
    });
}

fn faults(body: &str, kind: FaultKind) {
    for kernel in kernels(&module(1, body), "k") {
        let fault = launch(&kernel, &mut [0; 64]).expect_err(body);
        assert_eq!(fault.kind, kind, "{fault} of {body}");
    }
}

#[test]
fn what_is_wrong_with_an_asynchronous_operation_is_a_fault() {
    let copy = |to: &str, from: &str, size: u32, bar: &str| {
        format!(
            "@%first cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [{to}], [{from}], {size}, [{bar}];"
        )
    };
    let misaligned = FaultKind::Misaligned;
    let outside = FaultKind::IllegalAddress;
    faults(&copy("%near", "%in", 24, "%far"), misaligned);
    faults(&copy("%near+8", "%in", 16, "%far"), misaligned);
    faults(&copy("%near", "%in+8", 16, "%far"), misaligned);
    faults(&copy("%near", "%in", 16, "%far+4"), misaligned);
    faults(&copy("%near+4096", "%in", 16, "%far"), outside);
    faults(&copy("%near", "%in+4096", 16, "%far"), outside);
    faults(&copy("%near", "%in", 2048, "%far"), outside);
    faults(&copy("%near", "%in", 16, "%far+4096"), outside);
    faults(&copy("%near", "%in", 1 << 31, "%far"), outside);
    // A mask with a block that is not there.
    faults(
        "mov.b16 %mask, 17; mov.u32 %y, tile; mov.u32 %x, bar; @%first cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%y], [%in], 16, [%x], %mask;",
        outside,
    );
    faults(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%near+8], {%x, %x, %x, %x}, [%far];",
        misaligned,
    );
    faults(
        "st.async.mbarrier::complete_tx::bytes.b32 [%out], %x, [%gfar];",
        outside,
    );
    // A barrier of another block can be arrived at, not made or asked.
    faults("mbarrier.init.b64 [%gfar], 1;", outside);
    faults("mbarrier.test_wait.parity.b64 %p, [%gfar], 0;", outside);
    faults(
        "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 1048576;",
        FaultKind::IllegalInstruction,
    );
    faults(
        "mbarrier.arrive.shared::cluster.b64 _, [%far], 2;",
        FaultKind::IllegalInstruction,
    );
}
