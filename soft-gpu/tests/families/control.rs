//! Branches, calls, ends, stacks, hints, and special registers.

use soft_gpu::exec::{FaultKind, Path};

use super::{kernel, outcomes, results};
use crate::support::{Argument, Run, kernels};

pub(crate) fn check(form: &str) {
    match form.split('.').next().unwrap_or("") {
        // Each lane its own number of rounds; with `.uni` all the same.
        "bra" => {
            let rounds = if form.contains("uni") {
                "mov.u32 %n, 5;"
            } else {
                "and.b32 %n, %lane, 7;"
            };
            let body = format!(
                "{rounds} add.u32 %n, %n, 1; mov.b32 %x, 0;\nLOOP: add.u32 %x, %x, 3; sub.u32 %n, %n, 1; setp.ne.u32 %p, %n, 0; @%p {form} LOOP;"
            );
            let uniform = form.contains("uni");
            words(form, &body, "", |lane| {
                if uniform { 18 } else { 3 * (lane % 8 + 1) }
            });
        }
        "brx" => {
            let index = if form.contains("uni") {
                "mov.b32 %n, 2;"
            } else {
                "rem.u32 %n, %lane, 3;"
            };
            let body = format!(
                "LIST: .branchtargets ONE, TWO, THREE;\n{index}\n{form} %n, LIST;\nONE: mov.b32 %x, 11; bra MET;\nTWO: mov.b32 %x, 22; bra MET;\nTHREE: mov.b32 %x, 33;\nMET:"
            );
            let uniform = form.contains("uni");
            words(form, &body, "", |lane| {
                if uniform { 33 } else { 11 * (lane % 3 + 1) }
            });
        }
        "call" => {
            let called = format!(
                "{{ .param .b32 a; .param .b32 r; st.param.b32 [a], %lane; {form} (r), f, (a); ld.param.b32 %x, [r]; }}"
            );
            words(form, &called, &function("ret"), |lane| lane * 5 + 1);
        }
        "ret" => {
            let called = "{ .param .b32 a; .param .b32 r; st.param.b32 [a], %lane; call (r), f, (a); ld.param.b32 %x, [r]; }";
            words(form, called, &function(form), |lane| lane * 5 + 1);
            // Out of a kernel, of some lanes; of all where it is said to be of all.
            let body = match form.contains("uni") {
                true => format!("mov.b32 %x, 1; st.global.b32 [%to], %x;\n{form};"),
                false => format!(
                    "mov.b32 %x, 1; st.global.b32 [%to], %x; setp.lt.u32 %p, %lane, 9;\n@%p {form};\nmov.b32 %x, 2;"
                ),
            };
            let some = !form.contains("uni");
            words(
                form,
                &body,
                "",
                |lane| if some && lane >= 9 { 2 } else { 1 },
            );
        }
        "exit" => {
            let body = "mov.b32 %x, 1; st.global.b32 [%to], %x;\n{ .param .b32 a; .param .b32 r; st.param.b32 [a], %lane; call (r), f, (a); }\nmov.b32 %x, 2;";
            let function = format!(
                ".func (.param .b32 r) f(.param .b32 a)\n{{ .reg .b32 %a; .reg .pred %p; ld.param.b32 %a, [a]; setp.lt.u32 %p, %a, 9; @%p {form}; st.param.b32 [r], %a; ret; }}"
            );
            words(form, body, &function, |lane| if lane < 9 { 1 } else { 2 });
        }
        "trap" | "brkpt" => {
            let body = format!(".reg .pred %p; setp.eq.u32 %p, %lane, 4;\n@%p {form};");
            for (path, out) in outcomes(&kernel(&body, ""), 32, &[], 1, Path::available()) {
                let fault = out.expect_err("a trap");
                assert_eq!(fault.kind, FaultKind::Trap, "{form} on {path:?}");
            }
        }
        "nanosleep" => words(
            form,
            &format!("mov.b32 %x, 100; {form} 20; {form} %x;"),
            "",
            |_| 100,
        ),
        "pmevent" => words(form, &format!("mov.b32 %x, 7; {form} 1;"), "", |_| 7),
        "griddepcontrol" => words(form, &format!("mov.b32 %x, 7; {form};"), "", |_| 7),
        "setmaxnreg" => words(form, &format!("mov.b32 %x, 7; {form} 40;"), "", |_| 7),
        "alloca" | "stacksave" | "stackrestore" => stack(form),
        other => panic!("no reference of `{other}`"),
    }
}

fn function(ret: &str) -> String {
    format!(
        ".func (.param .b32 r) f(.param .b32 a)\n{{ .reg .b32 %a; ld.param.b32 %a, [a]; mad.lo.u32 %a, %a, 5, 1; st.param.b32 [r], %a; {ret}; }}"
    )
}

/// The results of a kernel whose lanes leave a word each in `%x`.
fn words(form: &str, body: &str, functions: &str, want: impl Fn(u32) -> u32) {
    let body = format!(
        ".reg .b32 %x, %n; .reg .pred %p; .reg .b64 %to;\nmad.wide.u32 %to, %lane, 8, %out;\n{body}\nst.global.b32 [%to], %x;"
    );
    for (path, out) in results(&kernel(&body, functions), 32, &[], 32) {
        for (lane, word) in out.into_iter().enumerate() {
            assert_eq!(
                word as u32,
                want(lane as u32),
                "{form} in lane {lane} on {path:?}"
            );
        }
    }
}

/// What is allocated behind a saved stack does not overlap what was there, and is there anew after it was restored.
fn stack(form: &str) {
    let ty = if form.ends_with("u32") { "u32" } else { "u64" };
    let bits = &ty[1..];
    let body = format!(
        ".reg .b{bits} %s, %first, %second, %third, %size; mov.b{bits} %size, 16;\n\
         alloca.{ty} %first, %size; st.local.u32 [%first], %lane;\nstacksave.{ty} %s;\n\
         alloca.{ty} %second, %size, 8; mov.b32 %n, 99; st.local.u32 [%second], %n; st.local.u32 [%second+12], %n;\n\
         stackrestore.{ty} %s;\nalloca.{ty} %third, %size, 8; setp.eq.u{bits} %p, %second, %third;\n\
         ld.local.u32 %x, [%first]; ld.local.u32 %n, [%third]; add.u32 %x, %x, %n; @!%p mov.b32 %x, 0;"
    );
    words(form, &body, "", |lane| lane + 99);
}

/// Every special register that tells something of a thread's place, or of the time.
pub(crate) fn check_special_registers() {
    let (block, grid) = ([9u32, 4, 2], [3u32, 2, 2]);
    let threads = 72;
    type Told = (&'static str, fn(u32, [u32; 3], [u32; 3]) -> Option<u32>);
    let told: [Told; 21] = [
        ("%tid.x", |thread, block, _| Some(thread % block[0])),
        ("%tid.y", |thread, block, _| {
            Some(thread / block[0] % block[1])
        }),
        ("%tid.z", |thread, block, _| {
            Some(thread / block[0] / block[1])
        }),
        ("%ntid.x", |_, block, _| Some(block[0])),
        ("%ntid.y", |_, block, _| Some(block[1])),
        ("%ntid.z", |_, block, _| Some(block[2])),
        ("%nctaid.x", |_, _, grid| Some(grid[0])),
        ("%nctaid.y", |_, _, grid| Some(grid[1])),
        ("%nctaid.z", |_, _, grid| Some(grid[2])),
        ("%laneid", |thread, _, _| Some(thread % 32)),
        ("%warpid", |thread, _, _| Some(thread / 32)),
        ("%nwarpid", |_, block, _| {
            Some(block.iter().product::<u32>().div_ceil(32))
        }),
        ("%lanemask_eq", |thread, _, _| Some(1 << (thread % 32))),
        ("%lanemask_lt", |thread, _, _| {
            Some((1 << (thread % 32)) - 1)
        }),
        ("%lanemask_le", |thread, _, _| {
            Some(u32::MAX >> (31 - thread % 32))
        }),
        ("%lanemask_gt", |thread, _, _| {
            Some(!(u32::MAX >> (31 - thread % 32)))
        }),
        ("%lanemask_ge", |thread, _, _| {
            Some(u32::MAX << (thread % 32))
        }),
        ("%dynamic_smem_size", |_, _, _| Some(48)),
        ("%total_smem_size", |_, _, _| Some(112)),
        ("%envreg3", |_, _, _| Some(0)),
        ("%nsmid", |_, _, _| None),
    ];
    let mut body = String::from(
        ".shared .align 16 .b8 fixed[64]; .reg .b32 %t, %x, %y; .reg .b64 %at, %w, %v; .reg .pred %p;\n\
         ld.param.u64 %at, [out]; mov.u32 %x, fixed; st.shared.b32 [%x], %x; mov.u32 %x, dynamic; st.shared.b32 [%x], %x;\n\
         mov.u32 %x, %ctaid.z; mov.u32 %y, %nctaid.y; mul.lo.u32 %x, %x, %y; mov.u32 %y, %ctaid.y; add.u32 %x, %x, %y;\n\
         mov.u32 %y, %nctaid.x; mul.lo.u32 %x, %x, %y; mov.u32 %y, %ctaid.x; add.u32 %x, %x, %y;\n\
         mov.u32 %t, %tid.z; mov.u32 %y, %ntid.y; mul.lo.u32 %t, %t, %y; mov.u32 %y, %tid.y; add.u32 %t, %t, %y;\n\
         mov.u32 %y, %ntid.x; mul.lo.u32 %t, %t, %y; mov.u32 %y, %tid.x; add.u32 %t, %t, %y;\n\
         ld.param.u32 %y, [threads]; mad.lo.u32 %t, %x, %y, %t; mad.wide.u32 %at, %t, 96, %at;\n",
    );
    for (index, (name, _)) in told.iter().enumerate() {
        body += &format!(
            "mov.u32 %x, {name}; st.global.u32 [%at+{}], %x;\n",
            index * 4
        );
    }
    // Times do not go back; the number of a multiprocessor is one of those there are.
    body += "mov.u64 %w, %clock64; mov.u64 %v, %clock64; setp.le.u64 %p, %w, %v; mov.u64 %w, %globaltimer; mov.u64 %v, %globaltimer; setp.le.and.u64 %p, %w, %v, %p;\n\
             mov.u32 %x, %smid; mov.u32 %y, %nsmid; setp.lt.and.u32 %p, %x, %y, %p; mov.u32 %x, %clock; mov.u32 %x, %clock_hi; mov.u32 %x, %globaltimer_lo; mov.u32 %x, %globaltimer_hi; setp.ne.and.u32 %p, %x, 0, %p;\n\
             mov.u64 %w, %gridid; selp.u32 %x, 1, 0, %p; st.global.u32 [%at+84], %x; ret;\n}\n";
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 dynamic[];\n.visible .entry k(.param .u64 out, .param .u32 threads)\n{{\n{body}"
    );
    for kernel in kernels(&text, "k") {
        let blocks: u32 = grid.iter().product();
        let mut out = vec![0u32; (blocks * threads * 24) as usize];
        let mut run = Run::new(&kernel, 1, 1);
        (run.grid, run.block, run.shared) = (grid, block, 48);
        let arguments = [run.buffer(&mut out), Argument::U32(threads)];
        run.launch(&arguments).unwrap();
        for (number, words) in out.chunks_exact(24).enumerate() {
            let thread = number as u32 % threads;
            for ((name, want), word) in told.iter().zip(words) {
                if let Some(want) = want(thread, block, grid) {
                    assert_eq!(
                        *word, want,
                        "{name} of thread {thread} on {:?}",
                        kernel.path
                    );
                }
            }
            assert_eq!(
                words[21], 1,
                "times and numbers of thread {thread} on {:?}",
                kernel.path
            );
        }
    }
}
