//! Asynchronous copies and barriers in shared memory: several warps, several forms at once, and faults, on every path.

mod support;

use soft_gpu::exec::FaultKind;
use support::{Argument, Run, kernels};

const COPIES: &str = r"
.version 8.0
.target sm_80
.address_size 64
.visible .entry copies(.param .u64 in, .param .u64 out)
{
    .shared .align 16 .b8 memory[2048];
    .reg .pred %p<4>;
    .reg .b32 %r<40>;
    .reg .b64 %d<8>;
    mov.u32 %r0, %tid.x;
    mov.u32 %r1, memory;
    shl.b32 %r2, %r0, 6;
    add.u32 %r3, %r1, %r2;
    ld.param.u64 %d0, [in];
    mad.wide.u32 %d1, %r0, 16, %d0;
    createpolicy.fractional.L2::evict_last.b64 %d4, 1.0;
    // What is copied, how much of it, and nothing of what lies nowhere.
    and.b32 %r4, %r0, 15;
    setp.lt.u32 %p1, %r0, 16;
    selp.b64 %d2, %d1, 0, %p1;
    selp.b32 %r5, 16, 0, %p1;
    cp.async.cg.shared.global [%r3], [%d2], 16, %r5;
    cp.async.ca.shared.global.L2::cache_hint.L2::128B [%r3+16], [%d1], 16, %r4, %d4;
    cp.async.ca.shared.global [%r3+32], [%d1+8], 8;
    cp.async.ca.shared.global [%r3+40], [%d1+4], 4;
    cp.async.ca.shared.global [%r3+44], [%d1+4], 4, %p1;
    cp.async.commit_group;
    cp.async.wait_group 0;
    ld.param.u64 %d3, [out];
    mad.wide.u32 %d3, %r0, 48, %d3;
    ld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r3];
    st.global.v4.b32 [%d3], {%r10, %r11, %r12, %r13};
    ld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r3+16];
    st.global.v4.b32 [%d3+16], {%r10, %r11, %r12, %r13};
    ld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r3+32];
    st.global.L2::cache_hint.v4.b32 [%d3+32], {%r10, %r11, %r12, %r13}, %d4;
    ret;
}
";

#[test]
fn asynchronous_copies_fill_with_zeros() {
    for kernel in kernels(COPIES, "copies") {
        let mut input: Vec<u8> = (0..512u32).map(|i| (i * 7 + 1) as u8).collect();
        let mut out = vec![0u8; 32 * 48];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut input), run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        for lane in 0..32usize {
            let (from, got) = (&input[lane * 16..][..16], &out[lane * 48..][..48]);
            let mut want = vec![0u8; 48];
            if lane < 16 {
                want[..16].copy_from_slice(from);
            } else {
                want[44..].copy_from_slice(&from[4..8]);
            }
            want[16..16 + lane % 16].copy_from_slice(&from[..lane % 16]);
            want[32..40].copy_from_slice(&from[8..]);
            want[40..44].copy_from_slice(&from[4..8]);
            assert_eq!(got, want, "lane {lane} on {:?}", kernel.path);
        }
    }
}

#[test]
fn a_copy_from_nowhere_is_a_fault() {
    let text = COPIES.replace("selp.b32 %r5, 16, 0, %p1", "selp.b32 %r5, 16, 1, %p1");
    for kernel in kernels(&text, "copies") {
        let (mut input, mut out) = (vec![0u8; 512], vec![0u8; 32 * 48]);
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut input), run.buffer(&mut out)];
        let fault = run.launch(&arguments).unwrap_err();
        assert_eq!(fault.kind, FaultKind::IllegalAddress);
    }
}

/// Two warps hand a word to and fro through barriers in shared memory; a third takes part once and drops out.
const HANDSHAKE: &str = r"
.version 8.0
.target sm_80
.address_size 64
.visible .entry handshake(.param .u64 out, .param .u32 rounds)
{
    .shared .align 8 .b64 barrier;
    .shared .align 4 .b32 word;
    .reg .pred %p<4>;
    .reg .b32 %r<16>;
    .reg .b64 %d<8>;
    mov.u32 %r0, %tid.x;
    setp.ne.u32 %p0, %r0, 0;
    @%p0 bra READY;
    mbarrier.init.shared.b64 [barrier], 96;
    mov.b32 %r1, 0;
    st.shared.b32 [word], %r1;
READY:
    bar.sync 0;
    setp.ge.u32 %p1, %r0, 64;
    @%p1 bra DROP;
    mov.b32 %r2, 0;
LOOP:
    and.b32 %r3, %r2, 1;
    shr.u32 %r4, %r0, 5;
    setp.ne.u32 %p2, %r3, %r4;
    and.b32 %r5, %r0, 31;
    setp.ne.or.u32 %p2, %r5, 0, %p2;
    @%p2 bra ARRIVE;
    ld.shared.b32 %r6, [word];
    mad.lo.u32 %r6, %r6, 3, 1;
    st.shared.b32 [word], %r6;
ARRIVE:
    mbarrier.arrive.shared.b64 %d0, [barrier];
WAIT:
    mbarrier.test_wait.shared.b64 %p3, [barrier], %d0;
    @%p3 bra NEXT;
    nanosleep.u32 100;
    bra WAIT;
NEXT:
    add.u32 %r2, %r2, 1;
    ld.param.u32 %r9, [rounds];
    setp.lt.u32 %p3, %r2, %r9;
    @%p3 bra LOOP;
    mbarrier.pending_count.b64 %r7, %d0;
    ld.shared.b32 %r6, [word];
    ld.param.u64 %d1, [out];
    mad.wide.u32 %d1, %r0, 8, %d1;
    st.global.v2.b32 [%d1], {%r6, %r7};
    ret;
DROP:
    mbarrier.arrive_drop.shared.b64 %d0, [barrier];
    mov.b32 %r8, 0;
PARITY:
    mbarrier.test_wait.parity.shared.b64 %p3, [barrier], %r8;
    @!%p3 bra PARITY;
    ret;
}
";

#[test]
fn warps_meet_at_barriers_in_shared_memory() {
    for kernel in kernels(HANDSHAKE, "handshake") {
        let mut out = vec![0u32; 192];
        let mut run = Run::new(&kernel, 1, 96);
        // Waiting gives way: with whole quanta of waiting this would be used up.
        run.budget = Some(1 << 20);
        let arguments = [run.buffer(&mut out), Argument::U32(8)];
        run.launch(&arguments).unwrap();
        let word = (0..8).fold(0u32, |word, _| word * 3 + 1);
        for thread in 0..64 {
            assert_eq!(out[thread * 2], word);
            // The state is that from before the arrival, so that the last one still saw itself pending.
            assert!((1..=64).contains(&out[thread * 2 + 1]));
        }
    }
}

#[test]
fn a_barrier_outside_shared_memory_or_too_many_arrivals_are_faults() {
    let elsewhere = HANDSHAKE.replace(
        "mbarrier.init.shared.b64 [barrier], 96;",
        "ld.param.u64 %d2, [out]; mbarrier.init.b64 [%d2], 96;",
    );
    let too_many = HANDSHAKE.replace(
        "mbarrier.arrive.shared.b64 %d0, [barrier];",
        "mbarrier.arrive.noComplete.shared.b64 %d0, [barrier], 97;",
    );
    for (text, kind) in [
        (elsewhere, FaultKind::IllegalAddress),
        (too_many, FaultKind::IllegalInstruction),
    ] {
        for kernel in kernels(&text, "handshake") {
            let mut out = vec![0u32; 192];
            let mut run = Run::new(&kernel, 1, 96);
            run.budget = Some(1 << 20);
            let arguments = [run.buffer(&mut out), Argument::U32(8)];
            assert_eq!(run.launch(&arguments).unwrap_err().kind, kind);
        }
    }
}
