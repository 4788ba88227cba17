//! `ldmatrix` and `movmatrix`: tiles of eight lines of eight halves, plain and transposed.

use std::fmt::Write as _;

use super::list;
use crate::support::{Argument, Run, kernels};

/// The halves of two neighbours in a tile's line, numbered from `first`.
fn pair(first: u32, line: u32, column: u32, is_transposed: bool) -> u32 {
    let number = |line: u32, column: u32| {
        first
            + if is_transposed {
                column * 8 + line
            } else {
                line * 8 + column
            }
    };
    number(line, column) | number(line, column + 1) << 16
}

/// Runs one form; shared memory has halves numbered from `first`, and each lane names a line of sixteen bytes.
pub(crate) fn check(form: &str) {
    const FIRST: u32 = 5;
    let is_transposed = form.contains("trans");
    let (count, instruction) = match form.split('.').next() {
        Some("movmatrix") => (
            1,
            format!("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%d0}}, [%at];\n{form} %d0, %d0;"),
        ),
        _ => {
            let count = if form.contains("x4") {
                4
            } else {
                1 + usize::from(form.contains("x2"))
            };
            let at = match form {
                _ if form.contains("shared") => "%at",
                _ => "%generic",
            };
            (count, format!("{form} {}, [{at}];", list("d", count)))
        }
    };
    let mut text = String::from(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 out, .param .u32 first)\n{\n\
         .shared .align 16 .b8 memory[512];\n.reg .b32 %lane, %at, %n, %d<4>;\n.reg .b64 %out, %generic;\n\
         mov.u32 %lane, %tid.x;\nmov.u32 %at, memory;\nmad.lo.u32 %at, %lane, 16, %at;\n\
         cvt.u64.u32 %generic, %at;\ncvta.shared.u64 %generic, %generic;\n\
         ld.param.u32 %n, [first];\nmad.lo.u32 %n, %lane, 8, %n;\nmad.lo.u32 %n, %n, 65537, 65536;\n",
    );
    for word in 0..4 {
        writeln!(
            text,
            "st.shared.b32 [%at+{}], %n;\nadd.u32 %n, %n, 131074;",
            word * 4
        )
        .unwrap();
    }
    writeln!(text, "bar.warp.sync 0xffffffff;\n{instruction}\nld.param.u64 %out, [out];\nmad.wide.u32 %out, %lane, 16, %out;").unwrap();
    for register in 0..count {
        writeln!(text, "st.global.b32 [%out+{}], %d{register};", register * 4).unwrap();
    }
    text += "ret;\n}\n";
    for kernel in kernels(&text, "k") {
        let mut out = vec![0u32; 128];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut out), Argument::U32(FIRST)];
        run.launch(&arguments).unwrap();
        for lane in 0..32u32 {
            for tile in 0..count as u32 {
                let want = pair(FIRST + tile * 64, lane / 4, lane % 4 * 2, is_transposed);
                let got = out[(lane * 4 + tile) as usize];
                assert_eq!(
                    got, want,
                    "{form}: tile {tile} in lane {lane} on {:?}",
                    kernel.path
                );
            }
        }
    }
}
