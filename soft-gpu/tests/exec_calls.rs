//! Calls through pointers, stacks that grow, the device's heap and cooperative launches, on every path.

mod support;
#[path = "support/variables.rs"]
mod variables;

use soft_gpu::exec::{FaultKind, Heap};
use soft_gpu::ptx;
use support::{Argument, Kernel, Run, kernels, kernels_of};
use variables::Variables;

const CALLS: &str = include_str!("../kernels/calls.ptx");

/// The module with its variables.
fn module() -> (ptx::Module, Variables) {
    let module = ptx::parse(CALLS).unwrap();
    let variables = Variables::of(&module);
    (module, variables)
}

fn of(module: &(ptx::Module, Variables), kernel: &str) -> Vec<Kernel> {
    kernels_of(&module.0, kernel, &|name| module.1.address(name))
}

/// A launch of one block that may touch the module's variables.
fn run<'k>(module: &mut (ptx::Module, Variables), kernel: &'k Kernel, block: u32) -> Run<'k> {
    let mut run = Run::new(kernel, 1, block);
    run.buffer(&mut module.1.bytes);
    run
}

#[test]
fn a_table_of_functions_is_called_lane_by_lane() {
    let mut module = module();
    for kernel in of(&module, "through_table") {
        let mut out = vec![0i32; 48];
        let mut run = run(&mut module, &kernel, 48);
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        for (t, value) in (0..48).zip(out) {
            let expected = [t + 3, t - 3, t * 3, t * t * t][t as usize % 4];
            assert_eq!(value, expected, "{:?} {t}", kernel.path);
        }
    }
}

#[test]
fn a_pointer_is_the_same_in_all_kernels_of_a_module() {
    let mut module = module();
    let plus = module.0.function_address("_Z4plusii").unwrap();
    for kernel in of(&module, "address_of") {
        let mut out = vec![0u64; 2];
        let mut run = run(&mut module, &kernel, 1);
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        let minus = module.0.function_address("_Z5minusii").unwrap();
        assert_eq!(out, [plus, minus]);
    }
    for kernel in of(&module, "through_parameter") {
        let mut out = vec![0i32; 32];
        let mut run = run(&mut module, &kernel, 32);
        let arguments = [Argument::U64(plus), run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        let expected = (0..32).map(|t| if t % 3 != 0 { t + 5 } else { t * 5 });
        assert_eq!(out, expected.collect::<Vec<_>>(), "{:?}", kernel.path);
        // Neither another module's function, nor memory, nor nothing can be called.
        let other = ptx::parse(CALLS).unwrap();
        let foreign = other.function_address("_Z4plusii").unwrap();
        for wrong in [foreign, plus + 4, 0, out.as_ptr() as u64, u64::MAX] {
            let fault = run.launch(&[Argument::U64(wrong), arguments[1]]);
            let fault = fault.unwrap_err();
            assert_eq!(fault.kind, FaultKind::InvalidPc, "{fault}");
            assert_eq!((fault.address, fault.thread), (Some(wrong), [1, 0, 0]));
        }
    }
}

/// Calls through a pointer among a list, with a function that this device does not execute among them.
const LISTED: &str = "
.version 7.0
.target sm_80
.address_size 64
.func (.param .b32 r) one(.param .b32 a) { .reg .b32 %r<2>; ld.param.b32 %r0, [a]; add.u32 %r1, %r0, 1; st.param.b32 [r], %r1; ret; }
.func (.param .b32 r) two(.param .b32 a) { .reg .b32 %r<2>; ld.param.b32 %r0, [a]; add.u32 %r1, %r0, 2; st.param.b32 [r], %r1; ret; }
.func (.param .b32 r) bad(.param .b32 a) { .reg .b32 %r<2>; unheard.of.u32 %r0, %r1; ret; }
.visible .entry k(.param .u64 out, .param .u32 which)
{
    .reg .b64 %f, %o; .reg .b32 %r<4>; .reg .pred %p;
    ld.param.u64 %o, [out];
    ld.param.u32 %r0, [which];
    mov.u32 %r1, %tid.x;
    mov.u64 %f, one;
    setp.eq.u32 %p, %r0, 1;
    @%p mov.u64 %f, two;
    setp.eq.u32 %p, %r0, 2;
    @%p mov.u64 %f, bad;
    setp.lt.u32 %p, %r1, 20;
    mov.u32 %r2, 7;
    {
        .param .b32 p; .param .b32 q;
        st.param.b32 [p], %r1;
        st.param.b32 [q], 7;
        @%p call (q), %f, (p), list;
        ld.param.b32 %r2, [q];
    }
list: .calltargets one, two, bad;
    mad.wide.u32 %o, %r1, 4, %o;
    st.global.u32 [%o], %r2;
    ret;
}
";

#[test]
fn a_list_of_targets_and_a_target_that_is_not_executed() {
    for kernel in kernels(LISTED, "k") {
        for which in 0..3 {
            let mut out = vec![0u32; 32];
            let mut run = Run::new(&kernel, 1, 32);
            let arguments = [run.buffer(&mut out), Argument::U32(which)];
            let result = run.launch(&arguments);
            if which == 2 {
                let fault = result.unwrap_err();
                assert_eq!(fault.kind, FaultKind::IllegalInstruction);
                assert!(fault.to_string().contains("unheard.of.u32"), "{fault}");
                continue;
            }
            result.unwrap();
            let expected = (0..32).map(|t| if t < 20 { t + 1 + which } else { 7 });
            assert_eq!(out, expected.collect::<Vec<_>>(), "{:?}", kernel.path);
        }
    }
}

#[test]
fn what_is_not_executed_refuses_only_kernels_that_call_it_by_name() {
    let decode = |text: &str| {
        let module = ptx::parse(text).unwrap();
        soft_gpu::exec::Program::decode(&module, "k", &|_| None).map(drop)
    };
    decode(LISTED).unwrap();
    let error = decode(&LISTED.replace("%f, (p), list", "bad, (p)")).unwrap_err();
    assert!(error.to_string().contains("unheard.of.u32"), "{error}");
    for wrong in [
        LISTED.replace("one, two, bad;", "one, k;"),
        LISTED.replace("one, two, bad;", "one, nobody;"),
        LISTED.replace(".calltargets one, two, bad;", ".callprototype _ ();"),
        LISTED.replace("(q), %f, (p), list", "(q), %f, (p)"),
        LISTED.replace("(q), %f, (p), list", "(q), %f, (p), nothing"),
    ] {
        assert!(decode(&wrong).is_err());
    }
}

/// With room for the heap and with the module's variables.
fn with_heap<'k>(
    module: &mut (ptx::Module, Variables),
    kernel: &'k Kernel,
    memory: &mut [u64],
    block: u32,
) -> Run<'k> {
    let mut run = run(module, kernel, block);
    let Argument::U64(start) = run.buffer(memory) else {
        unreachable!()
    };
    run.heap = Some(Heap::new(start..start + 8 * memory.len() as u64));
    run
}

#[test]
fn objects_with_virtual_functions_are_made_on_the_device() {
    let mut module = module();
    for kernel in of(&module, "virtuals") {
        let (mut memory, mut out) = (vec![0u64; 4096], vec![0f32; 128]);
        let mut run = with_heap(&mut module, &kernel, &mut memory, 64);
        run.grid[0] = 2;
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        for (t, value) in out.into_iter().enumerate() {
            let square = (t * t) as f32;
            let expected = square * if t % 2 == 1 { 2.0 } else { 6.0 };
            assert_eq!(value, expected, "{:?} {t}", kernel.path);
        }
    }
}

#[test]
fn what_one_launch_allocates_another_frees() {
    let mut module = module();
    let makers = of(&module, "make_lists");
    let enders = of(&module, "free_lists");
    for (make, end) in makers.iter().zip(&enders) {
        let (mut memory, mut sums) = (vec![0u64; 2048], vec![0i32; 64]);
        let mut making = with_heap(&mut module, make, &mut memory, 64);
        for _ in 0..4 {
            making.launch(&[Argument::U32(10)]).unwrap();
            let mut ending = run(&mut module, end, 64);
            ending.ranges.clone_from(&making.ranges);
            ending.heap = making.heap.take();
            let arguments = [ending.buffer(&mut sums)];
            ending.launch(&arguments).unwrap();
            making.heap = ending.heap.take();
            let expected = (0..64).map(|t| t * 1000 + 45);
            assert_eq!(sums, expected.collect::<Vec<_>>(), "{:?}", make.path);
        }
    }
}

#[test]
fn a_heap_that_is_used_up_gives_null() {
    let mut module = module();
    for kernel in of(&module, "exhaust") {
        let (mut memory, mut out) = (vec![0u64; 1024], vec![0i32; 64]);
        let mut run = with_heap(&mut module, &kernel, &mut memory, 64);
        let arguments = [Argument::U32(100), run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        let all = out.iter().sum::<i32>();
        assert!((70..=73).contains(&all), "{all} pieces of 112 bytes");
        run.heap = None;
        run.launch(&arguments).unwrap();
        assert_eq!(out, [0; 64]);
    }
}

#[test]
fn freeing_twice_is_a_fault_that_says_so() {
    let mut module = module();
    for kernel in of(&module, "double_free") {
        let (mut memory, mut out) = (vec![0u64; 1024], vec![0i32; 1]);
        let mut run = with_heap(&mut module, &kernel, &mut memory, 1);
        let arguments = [run.buffer(&mut out)];
        let fault = run.launch(&arguments).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Trap);
        assert!(fault.to_string().contains("free of 0x"), "{fault}");
    }
}

#[test]
fn a_stack_grows_as_each_lane_asks() {
    let mut module = module();
    for kernel in of(&module, "on_stack") {
        let mut out = vec![0i32; 64];
        let mut run = run(&mut module, &kernel, 64);
        let arguments = [Argument::U32(100), run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        let expected = (0..64).map(|t| t * 4950);
        assert_eq!(out, expected.collect::<Vec<_>>(), "{:?}", kernel.path);
        let fault = run.launch(&[Argument::U32(100_000), arguments[1]]);
        assert_eq!(fault.unwrap_err().kind, FaultKind::IllegalAddress);
    }
}

/// A call above what `alloca` made, which `stackrestore` takes back again in a loop.
const STACK: &str = "
.version 7.3
.target sm_80
.address_size 64
.func (.param .b32 r) fill(.param .b32 a)
{
    .local .b32 array[16]; .reg .b32 %r<3>; .reg .pred %p;
    ld.param.b32 %r0, [a];
    st.local.b32 [array], 99;
    st.local.b32 [array+60], 99;
    add.u32 %r1, %r0, 1;
    st.param.b32 [r], %r1;
    ret;
}
.visible .entry k(.param .u64 out, .param .u32 rounds)
{
    .reg .b64 %o, %s, %n; .reg .b32 %r<6>, %q, %m; .reg .pred %p;
    ld.param.u64 %o, [out];
    ld.param.u32 %r3, [rounds];
    mov.u32 %r0, %tid.x;
    mov.u32 %r2, 0;
again:
    stacksave.u64 %s;
    and.b32 %r1, %r0, 3;
    mad.lo.u32 %r1, %r1, 400, 4;
    cvt.u64.u32 %n, %r1;
    alloca.u64 %n, %n, 64;
    st.local.u32 [%n], %r0;
    alloca.u32 %q, %r1;
    st.local.u32 [%q], %r2;
    {
        .param .b32 p; .param .b32 q;
        st.param.b32 [p], %r2;
        call (q), fill, (p);
        ld.param.b32 %r2, [q];
    }
    ld.local.u32 %r4, [%n];
    ld.local.u32 %r5, [%q];
    add.u32 %r4, %r4, %r5;
    RESTORE
    sub.u32 %r3, %r3, 1;
    setp.ne.u32 %p, %r3, 0;
    @%p bra again;
    mad.wide.u32 %o, %r0, 4, %o;
    st.global.u32 [%o], %r4;
    ret;
}
";

#[test]
fn a_stack_is_saved_and_restored_around_calls() {
    for kernel in kernels(&STACK.replace("RESTORE", "stackrestore.u64 %s;"), "k") {
        let mut out = vec![0u32; 32];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut out), Argument::U32(1000)];
        run.launch(&arguments).unwrap();
        let expected = (0..32).map(|t| t + 999);
        assert_eq!(out, expected.collect::<Vec<_>>(), "{:?}", kernel.path);
    }
    for kernel in kernels(&STACK.replace("RESTORE", ""), "k") {
        let mut out = vec![0u32; 32];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut out), Argument::U32(1000)];
        let fault = run.launch(&arguments).unwrap_err();
        let kinds = [FaultKind::IllegalAddress, FaultKind::StackOverflow];
        assert!(kinds.contains(&fault.kind), "{fault}");
    }
}

/// A cooperative launch of `grid` blocks of 40 threads.
fn together<'k>(kernel: &'k Kernel, grid: u32, threads: usize) -> Run<'k> {
    let mut run = Run::new(kernel, grid, 40);
    (run.cooperative, run.threads) = (true, threads);
    run
}

#[test]
fn a_grid_waits_for_all_its_blocks() {
    let module = module();
    for kernel in of(&module, "grid_sums") {
        for (grid, threads) in [(1, 1), (7, 1), (7, 3), (64, 2)] {
            let all = grid as usize * 40;
            let mut expected: Vec<i32> = (0..all as i32).collect();
            let mut values = expected.clone();
            let mut seen = vec![0i32; 2];
            for _ in 0..9 {
                let before = expected.clone();
                for t in 0..all {
                    expected[t] = before[t].wrapping_add(before[(t + 1) % all]);
                }
            }
            let mut run = together(&kernel, grid, threads);
            let arguments = [
                run.buffer(&mut values),
                run.buffer(&mut seen),
                Argument::U32(9),
            ];
            run.launch(&arguments).unwrap();
            assert_eq!(values, expected, "{:?} {grid} {threads}", kernel.path);
            assert_eq!(seen, [1, grid as i32]);
        }
    }
}

#[test]
fn arriving_and_waiting_apart_sees_what_all_blocks_did() {
    let module = module();
    for kernel in of(&module, "grid_tail") {
        let mut out = vec![0i32; 401];
        let mut run = together(&kernel, 10, 2);
        let arguments = [run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        assert_eq!(out, [400; 401], "{:?}", kernel.path);
    }
}

#[test]
fn without_a_cooperative_launch_there_is_no_grid_to_wait_for() {
    let module = module();
    for kernel in of(&module, "grid_tail") {
        let mut out = vec![0i32; 401];
        let mut run = together(&kernel, 10, 2);
        run.cooperative = false;
        let arguments = [run.buffer(&mut out)];
        assert_eq!(run.launch(&arguments).unwrap_err().kind, FaultKind::Trap);
    }
}

/// Waits for ever for a block that does not come.
const ENDLESS: &str = "
.version 7.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out)
{
    .reg .b64 %o; .reg .b32 %r<3>; .reg .pred %p;
    ld.param.u64 %o, [out];
    mov.u32 %r1, %smid;
    mov.u32 %r2, %nsmid;
    setp.ge.u32 %p, %r1, %r2;
    @%p trap;
again:
    ld.acquire.gpu.u32 %r0, [%o];
    setp.eq.u32 %p, %r0, 0;
    @%p bra again;
    ret;
}
";

#[test]
fn a_grid_that_waits_for_ever_uses_up_its_budget() {
    for kernel in kernels(ENDLESS, "k") {
        let mut out = vec![0u32; 1];
        let mut run = together(&kernel, 5, 2);
        run.budget = Some(1 << 20);
        let arguments = [run.buffer(&mut out)];
        let fault = run.launch(&arguments).unwrap_err();
        assert_eq!(fault.kind, FaultKind::LaunchTimeout);
    }
}

/// Replaces a few words of a text by others of it.
fn spoilt(text: &str, state: &mut u64) -> String {
    let mut next = |bound: usize| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 20) as usize % bound
    };
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"%._$".contains(&byte);
    let mut text = text.to_owned();
    for _ in 0..=next(3) {
        let bytes = text.as_bytes();
        let word = |at: usize| {
            let start = (0..=at).rev().find(|&i| i == 0 || !is_word(bytes[i - 1]));
            let end = (at..bytes.len()).find(|&i| !is_word(bytes[i]));
            start.unwrap_or(0)..end.unwrap_or(bytes.len())
        };
        let (to, from) = (word(next(bytes.len())), word(next(bytes.len())));
        if !to.is_empty() && !from.is_empty() && from.end < bytes.len() {
            let replacement = text[from].to_owned();
            text.replace_range(to, &replacement);
        }
    }
    text
}

#[test]
fn hostile_text_is_refused_or_faults_or_ends() {
    let restored = STACK.replace("RESTORE", "stackrestore.u64 %s;");
    let (mut state, mut decoded, mut ended) = (0x1234_5678_9abc_def1, 0, 0);
    for round in 0..3000 {
        let text = spoilt([LISTED, &restored, ENDLESS][round % 3], &mut state);
        let Ok(module) = ptx::parse(&text) else {
            continue;
        };
        let Some(entry) = module.kernel("k").cloned() else {
            continue;
        };
        let program = soft_gpu::exec::Program::decode(&module, "k", &|_| None);
        let Ok(program) = program else { continue };
        decoded += 1;
        let kernel = Kernel {
            program,
            entry,
            path: soft_gpu::exec::Path::detect(),
        };
        let mut memory = vec![0u32; 64];
        let mut run = together(&kernel, 3, 2);
        (run.cooperative, run.budget) = (round % 2 == 0, Some(1 << 14));
        let sizes: Vec<u32> = kernel.entry.params.iter().map(|param| param.size).collect();
        let arguments = match sizes[..] {
            [8] => vec![run.buffer(&mut memory)],
            [8, 4] => vec![run.buffer(&mut memory), Argument::U32(2)],
            _ => continue,
        };
        ended += u32::from(run.launch(&arguments).is_ok());
    }
    assert!(decoded > 300 && ended > 50, "{decoded} {ended}");
}
