//! Blocks of a cluster: who they are, each other's shared memory, their barrier, and what they do wrong; on every path, of one thread and of several.

mod support;

use soft_gpu::exec::{Fault, FaultKind, Statistics};
use support::{Argument, Kernel, Run, kernels};

/// A module of one kernel `k`, whose only parameter is the address of its results.
fn module(body: &str) -> String {
    format!(
        ".version 8.6\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 out, .param .u32 threads)\n{{\n\
         .reg .b32 %tid, %rank, %size, %threads; .reg .b64 %out; ld.param.u32 %threads, [threads];\n\
         mov.u32 %tid, %tid.x; mov.u32 %rank, %cluster_ctarank; mov.u32 %size, %cluster_nctarank;\n\
         ld.param.u64 %out, [out];\n{body}\nret;\n}}\n"
    )
}

/// A launch of this shape that leaves its results in `out`.
fn launch(
    kernel: &Kernel,
    (grid, block, cluster): ([u32; 3], u32, Option<[u32; 3]>),
    threads: usize,
    out: &mut [u32],
) -> Result<Statistics, Fault> {
    let mut run = Run::new(kernel, 1, block);
    (run.grid, run.cluster, run.threads) = (grid, cluster, threads);
    let arguments = [run.buffer(out), Argument::U32(block)];
    run.launch(&arguments)
}

/// The results of `body` on every path, of one thread and of three.
fn each(
    body: &str,
    shape: ([u32; 3], u32, Option<[u32; 3]>),
    words: usize,
    check: impl Fn(&[u32]),
) {
    for kernel in kernels(&module(body), "k") {
        for threads in [1, 3] {
            let mut out = vec![0u32; words];
            launch(&kernel, shape, threads, &mut out)
                .unwrap_or_else(|fault| panic!("{fault} on {:?}", kernel.path));
            check(&out);
        }
    }
}

/// Everything that tells a block's place in its cluster, and the cluster's in the grid.
const PLACES: &str = r"
    .reg .b32 %x, %y, %n; .reg .b64 %at; .reg .pred %p;
    mov.u32 %x, %ctaid.z; mov.u32 %y, %nctaid.y; mul.lo.u32 %x, %x, %y; mov.u32 %y, %ctaid.y; add.u32 %x, %x, %y;
    mov.u32 %y, %nctaid.x; mul.lo.u32 %x, %x, %y; mov.u32 %y, %ctaid.x; add.u32 %x, %x, %y;
    mad.wide.u32 %at, %x, 64, %out;
    mov.u32 %x, %clusterid.x; st.global.u32 [%at], %x;
    mov.u32 %x, %clusterid.y; st.global.u32 [%at+4], %x;
    mov.u32 %x, %clusterid.z; st.global.u32 [%at+8], %x;
    mov.u32 %x, %nclusterid.x; st.global.u32 [%at+12], %x;
    mov.u32 %x, %nclusterid.y; st.global.u32 [%at+16], %x;
    mov.u32 %x, %nclusterid.z; st.global.u32 [%at+20], %x;
    mov.u32 %x, %cluster_ctaid.x; st.global.u32 [%at+24], %x;
    mov.u32 %x, %cluster_ctaid.y; st.global.u32 [%at+28], %x;
    mov.u32 %x, %cluster_ctaid.z; st.global.u32 [%at+32], %x;
    mov.u32 %x, %cluster_nctaid.x; st.global.u32 [%at+36], %x;
    mov.u32 %x, %cluster_nctaid.y; st.global.u32 [%at+40], %x;
    mov.u32 %x, %cluster_nctaid.z; st.global.u32 [%at+44], %x;
    st.global.u32 [%at+48], %rank;
    st.global.u32 [%at+52], %size;
    mov.pred %p, %is_explicit_cluster; selp.u32 %x, 1, 0, %p; st.global.u32 [%at+56], %x;
";

#[test]
fn special_registers_of_clusters() {
    let grid = [4u32, 6, 2];
    for cluster in [None, Some([1, 1, 1]), Some([2, 3, 2]), Some([4, 1, 1])] {
        let size = cluster.unwrap_or([1; 3]);
        let shape = (grid, 1, cluster);
        each(PLACES, shape, 48 * 16, |out| {
            for (number, words) in out.chunks_exact(16).enumerate() {
                let number = number as u32;
                let block = [
                    number % grid[0],
                    number / grid[0] % grid[1],
                    number / grid[0] / grid[1],
                ];
                let inside = [0, 1, 2].map(|at: usize| block[at] % size[at]);
                let mut want = Vec::new();
                want.extend([0, 1, 2].map(|at: usize| block[at] / size[at]));
                want.extend([0, 1, 2].map(|at: usize| grid[at] / size[at]));
                want.extend(inside);
                want.extend(size);
                want.push(inside[0] + size[0] * (inside[1] + size[1] * inside[2]));
                want.push(size.iter().product());
                want.push(u32::from(cluster.is_some()));
                assert_eq!(words[..15], want, "block {block:?} of {cluster:?}");
            }
        });
    }
}

/// Each block hands its number to the next one of its cluster, and takes that of the one before, by each kind of access in turn.
fn ring(give: &str, take: &str) -> String {
    format!(
        ".shared .align 8 .b32 cell[2]; .reg .b32 %at, %near, %far, %next, %x, %y; .reg .b64 %to, %generic; .reg .pred %p;
        add.u32 %next, %rank, 1; rem.u32 %next, %next, %size;
        mov.u32 %at, cell; mapa.shared::cluster.u32 %far, %at, %next; mapa.shared::cluster.u32 %near, %at, %rank;
        mov.u64 %generic, cell; cvta.shared.u64 %generic, %generic; mapa.u64 %generic, %generic, %next;
        setp.eq.u32 %p, %tid, 0; mov.u32 %x, %ctaid.x; add.u32 %x, %x, 100;
        mov.b32 %y, 0; @%p st.shared.b32 [cell], %y;
        barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
        {give}
        barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;
        {take}
        mov.u32 %y, %ctaid.x; mad.lo.u32 %y, %y, %threads, %tid; mad.wide.u32 %to, %y, 4, %out; st.global.b32 [%to], %x;
        barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;"
    )
}

#[test]
fn blocks_reach_each_others_shared_memory() {
    const OWN: &str = "ld.shared.b32 %x, [cell];";
    // What the one before has given, or what is taken of the next one.
    let before = |rank: u32, size: u32| (rank + size - 1) % size;
    let next = |rank: u32, size: u32| (rank + 1) % size;
    type From = fn(u32, u32) -> u32;
    let ways: [(&str, &str, From); 9] = [
        ("@%p st.shared::cluster.b32 [%far], %x;", OWN, before),
        ("@%p st.b32 [%generic], %x;", OWN, before),
        (
            "@%p st.release.cluster.shared::cluster.b32 [%far], %x;",
            OWN,
            before,
        ),
        (
            "@%p red.relaxed.cluster.shared::cluster.add.u32 [%far], %x;",
            OWN,
            before,
        ),
        (
            "@%p atom.shared::cluster.exch.b32 %y, [%far], %x;",
            OWN,
            before,
        ),
        ("@%p atom.add.u32 %y, [%generic], %x;", OWN, before),
        (
            "@%p st.shared.b32 [cell], %x;",
            "ld.shared::cluster.b32 %x, [%far];",
            next,
        ),
        (
            "@%p st.shared.b32 [cell], %x;",
            "ld.acquire.cluster.b32 %x, [%generic];",
            next,
        ),
        // A block's own memory, by an address that says its rank, and by one that does not.
        (
            "@%p st.shared::cluster.b32 [%near], %x;",
            "ld.shared::cluster.b32 %x, [cell];",
            |rank, _| rank,
        ),
    ];
    for (give, take, from) in ways {
        for size in [1u32, 2, 8, 16] {
            let shape = ([32, 1, 1], 64, Some([size, 1, 1]));
            each(&ring(give, take), shape, 32 * 64, |out| {
                for (index, word) in out.iter().enumerate() {
                    let block = index as u32 / 64;
                    let want = block / size * size + from(block % size, size) + 100;
                    assert_eq!(*word, want, "{give} {take} of block {block} of {size}");
                }
            });
        }
    }
}

#[test]
fn addresses_say_whose_they_are() {
    let body = r"
        .shared .b32 cell; .reg .b32 %at, %other, %x, %n; .reg .b64 %generic, %to; .reg .pred %p;
        xor.b32 %other, %rank, 1; mov.u32 %n, 0;
        mov.u64 %generic, cell; cvta.shared.u64 %generic, %generic;
        isspacep.shared::cta %p, %generic; selp.u32 %x, 1, 0, %p; or.b32 %n, %n, %x;
        isspacep.shared::cluster %p, %generic; selp.u32 %x, 2, 0, %p; or.b32 %n, %n, %x;
        mapa.u64 %generic, %generic, %other;
        isspacep.shared::cta %p, %generic; selp.u32 %x, 4, 0, %p; or.b32 %n, %n, %x;
        isspacep.shared::cluster %p, %generic; selp.u32 %x, 8, 0, %p; or.b32 %n, %n, %x;
        isspacep.global %p, %generic; selp.u32 %x, 16, 0, %p; or.b32 %n, %n, %x;
        getctarank.u64 %x, %generic; shl.b32 %x, %x, 8; or.b32 %n, %n, %x;
        mapa.u64 %generic, %generic, %rank;
        isspacep.shared::cta %p, %generic; selp.u32 %x, 32, 0, %p; or.b32 %n, %n, %x;
        mov.u32 %at, cell; getctarank.shared::cluster.u32 %x, %at; shl.b32 %x, %x, 16; or.b32 %n, %n, %x;
        mov.u32 %x, %ctaid.x; mad.wide.u32 %to, %x, 4, %out; st.global.b32 [%to], %n;";
    each(body, ([6, 1, 1], 1, Some([2, 1, 1])), 6, |out| {
        for (block, word) in out.iter().enumerate() {
            let rank = block as u32 % 2;
            assert_eq!(*word, 1 | 2 | 8 | 32 | (rank ^ 1) << 8 | rank << 16);
        }
    });
}

/// Arrivals without waiting, lanes that part, and blocks that end early: the others go on.
#[test]
fn a_barrier_waits_for_those_that_live() {
    let body = r"
        .shared .b32 cell; .reg .b32 %x, %at, %far; .reg .b64 %to; .reg .pred %p, %q, %odd;
        setp.eq.u32 %p, %rank, 3;
        @%p exit;
        and.b32 %x, %tid, 1; setp.ne.u32 %odd, %x, 0;
        mov.b32 %x, 5; setp.eq.u32 %q, %tid, 0; @%q st.shared.b32 [cell], %x;
        // Half of the lanes arrive elsewhere than the others.
        @%odd bra ODD;
        barrier.cluster.arrive; bra WAIT;
    ODD:
        barrier.cluster.arrive.relaxed;
    WAIT:
        barrier.cluster.wait;
        // Who has arrived need not wait at once, and not if it ends.
        barrier.cluster.arrive;
        setp.eq.u32 %p, %rank, 2;
        @%p exit;
        mov.u32 %at, cell; xor.b32 %far, %rank, 1; mapa.shared::cluster.u32 %at, %at, %far; ld.shared::cluster.b32 %x, [%at];
        barrier.cluster.wait;
        mad.lo.u32 %at, %rank, 64, %tid; mad.wide.u32 %to, %at, 4, %out; st.global.b32 [%to], %x;";
    each(body, ([4, 1, 1], 64, Some([4, 1, 1])), 128, |out| {
        assert!(out.iter().all(|&word| word == 5), "{out:?}");
    });
}

/// Blocks of a cluster wait for each other's words in device memory, in both directions, and for a lock.
#[test]
fn blocks_of_a_cluster_are_there_at_the_same_time() {
    let body = r"
        .reg .b32 %x, %y, %n, %peer; .reg .b64 %mine, %theirs, %lock; .reg .pred %p;
        mad.wide.u32 %mine, %rank, 4, %out; sub.u32 %peer, %size, 1; sub.u32 %peer, %peer, %rank; mad.wide.u32 %theirs, %peer, 4, %out;
        add.u64 %lock, %out, 128; mov.u32 %n, 1;
    ROUND:
        st.release.gpu.u32 [%mine], %n;
    AWAIT:
        ld.acquire.gpu.u32 %x, [%theirs]; setp.lt.u32 %p, %x, %n; @%p bra AWAIT;
    LOCK:
        atom.global.cas.b32 %y, [%lock], 0, 1; setp.ne.u32 %p, %y, 0; @%p bra LOCK;
        ld.volatile.global.u32 %x, [%lock+4]; add.u32 %x, %x, 1; st.volatile.global.u32 [%lock+4], %x;
        atom.global.exch.b32 %y, [%lock], 0;
        add.u32 %n, %n, 1; setp.le.u32 %p, %n, 20; @%p bra ROUND;";
    each(body, ([8, 1, 1], 1, Some([8, 1, 1])), 34, |out| {
        assert_eq!((out[0], out[7], out[33]), (20, 20, 160));
    });
}

#[test]
fn a_cooperative_launch_may_have_clusters() {
    let body = ring(
        "@%p st.shared::cluster.b32 [%far], %x;",
        "ld.shared.b32 %x, [cell];",
    );
    for kernel in kernels(&module(&body), "k") {
        let mut out = vec![0u32; 16 * 64];
        let mut run = Run::new(&kernel, 16, 64);
        (run.cluster, run.cooperative) = (Some([4, 1, 1]), true);
        let arguments = [run.buffer(&mut out), Argument::U32(64)];
        run.launch(&arguments).unwrap();
        for (index, word) in out.iter().enumerate() {
            let block = index as u32 / 64;
            assert_eq!(*word, block / 4 * 4 + (block + 3) % 4 + 100);
        }
    }
}

fn faults(body: &str, cluster: Option<[u32; 3]>, kind: FaultKind) {
    for kernel in kernels(&module(body), "k") {
        for threads in [1, 2] {
            let shape = ([4, 1, 1], 32, cluster);
            let fault = launch(&kernel, shape, threads, &mut [0; 4]).unwrap_err();
            assert_eq!(fault.kind, kind, "{fault} of {body}");
        }
    }
}

#[test]
fn what_blocks_of_a_cluster_do_wrong_is_a_fault() {
    const TWO: Option<[u32; 3]> = Some([2, 1, 1]);
    let far = |rank: u32, access: &str| {
        format!(
            ".shared .b32 cell; .reg .b32 %at, %x; mov.u32 %at, cell; mapa.shared::cluster.u32 %at, %at, {rank};\n{access}"
        )
    };
    let outside = FaultKind::IllegalAddress;
    // A rank that the cluster has not, bytes that its blocks have not, and a mapped address where a block's own is meant.
    faults(&far(2, "ld.shared::cluster.b32 %x, [%at];"), TWO, outside);
    faults(&far(1, "ld.shared::cluster.b32 %x, [%at];"), None, outside);
    faults(&far(400, "st.shared::cluster.b32 [%at], %x;"), TWO, outside);
    faults(
        &far(1, "ld.shared::cluster.b32 %x, [%at+4096];"),
        TWO,
        outside,
    );
    faults(
        &far(1, "atom.shared::cluster.add.u32 %x, [%at+-4], 1;"),
        TWO,
        outside,
    );
    faults(&far(1, "ld.shared.b32 %x, [%at];"), TWO, outside);
    faults(
        &far(1, "ld.shared::cluster.b32 %x, [%at+2];"),
        TWO,
        FaultKind::Misaligned,
    );
    // One block waits for another one that waits elsewhere.
    let apart = ".reg .pred %p; setp.eq.u32 %p, %rank, 0; @%p bra HERE;\nbarrier.sync 1, 64; bra END;\nHERE: barrier.cluster.arrive; barrier.cluster.wait;\nEND:";
    faults(apart, TWO, FaultKind::Deadlock);
    faults(
        "barrier.cluster.arrive; barrier.cluster.arrive;",
        TWO,
        FaultKind::IllegalInstruction,
    );
}

#[test]
fn a_grid_of_parts_of_clusters_is_refused() {
    let kernel = &kernels(&module(""), "k")[0];
    for cluster in [
        [3, 1, 1],
        [1, 2, 1],
        [0, 1, 1],
        [17, 1, 1],
        [u32::MAX, u32::MAX, 1],
    ] {
        let shape = ([4, 1, 1], 32, Some(cluster));
        launch(kernel, shape, 1, &mut [0; 4]).expect_err("no launch");
    }
}

#[test]
fn operations_of_all_blocks_count() {
    let body = ".reg .b32 %x; .reg .pred %p; mov.b32 %x, 0;\nLOOP: add.u32 %x, %x, 1; setp.lt.u32 %p, %x, 20000; @%p bra LOOP;\nbarrier.cluster.arrive; barrier.cluster.wait;";
    for kernel in kernels(&module(body), "k") {
        let count = |cluster| {
            let shape = ([8, 1, 1], 32, cluster);
            launch(&kernel, shape, 2, &mut [0; 4]).unwrap()
        };
        let (alone, together) = (count(None), count(Some([4, 1, 1])));
        assert_eq!((alone.blocks, together.blocks), (8, 8));
        assert_eq!(alone.warp_operations, together.warp_operations);
        // The budget is that of all.
        let mut run = Run::new(&kernel, 8, 32);
        (run.cluster, run.budget) = (Some([8, 1, 1]), Some(alone.warp_operations / 2));
        let fault = run.launch(&[Argument::U64(0)]).unwrap_err();
        assert_eq!(fault.kind, FaultKind::LaunchTimeout);
    }
}
