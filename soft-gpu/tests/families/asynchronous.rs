//! Orders and hints, which change nothing here but must not disturb; copies to shared memory; barriers there.

use super::{POLICY, SCRATCH, bulk, kernel, noise, policy, results};

pub(crate) fn check(form: &str) {
    match form.split('.').next().unwrap_or("") {
        "fence" if form.contains("tensormap") && form.contains("acquire") => {
            undisturbed(&format!("{form} [%in], 128;"));
        }
        "membar" | "fence" => undisturbed(&format!("{form};")),
        "prefetch" | "prefetchu" if form.contains("local") => {
            undisturbed(&format!("{form} [own];"))
        }
        "prefetch" | "prefetchu" => undisturbed(&format!("{form} [%in];")),
        "applypriority" => undisturbed(&format!("{form} [%in], 128;")),
        // What is discarded is lost, so it is not what the lanes read.
        "discard" => undisturbed(&format!("add.u64 %x, %in, {SCRATCH}; {form} [%x], 128;")),
        "createpolicy" => {
            let operands = match form {
                _ if form.contains("fractional") => "1.0",
                _ if form.contains("range") => "[%in], 128, 256",
                _ => "0",
            };
            // A policy is good for a load.
            undisturbed(&format!(
                "{form} %x, {operands}; ld.global.L2::cache_hint.b64 %y, [%in], %x;"
            ));
        }
        "st" | "red" => bulk::check(form),
        "cp" if form.contains("bulk") => bulk::check(form),
        "cp" if form.contains("mbarrier") => completion(form),
        "cp" if form.contains("group") || form.contains("wait_all") => waiting(form),
        "cp" => copy(form),
        "mbarrier" => barrier(form),
        other => panic!("no reference of `{other}`"),
    }
}

/// What lanes have stored and what they load is as it was.
fn undisturbed(instruction: &str) {
    let body = format!(
        ".reg .b64 %x, %y, %from, %to; .local .align 8 .b8 own[64];\n\
         mad.wide.u32 %from, %lane, 8, %in; mad.wide.u32 %to, %lane, 8, %out;\n\
         ld.global.b64 %x, [%from]; st.local.b64 [own], %x;\n{instruction}\n\
         ld.local.b64 %x, [own]; ld.global.b64 %y, [%from]; add.u64 %x, %x, %y; st.global.b64 [%to], %x;"
    );
    let page: Vec<u64> = (0..32).map(noise).collect();
    let want: Vec<u64> = page.iter().map(|word| word.wrapping_mul(2)).collect();
    for (path, out) in results(&kernel(&body, ""), 32, &page, 32) {
        assert_eq!(out, want, "{instruction} on {path:?}");
    }
}

/// What every kernel with shared memory here begins with: a tile with 32 bytes of zeros for each lane.
const TILE: &str = ".shared .align 16 .b8 tile[1024]; .shared .align 8 .b64 bar; .reg .b32 %t, %u; .reg .b64 %from, %to, %w; .reg .pred %p, %first, %low;\n\
     mov.u32 %t, tile; mad.lo.u32 %t, %lane, 32, %t; mov.b64 %w, 0;\n\
     st.shared.v2.b64 [%t], {%w, %w}; st.shared.v2.b64 [%t+16], {%w, %w};\n\
     setp.eq.u32 %first, %lane, 0; setp.lt.u32 %low, %lane, 16;\n\
     mad.wide.u32 %from, %lane, 16, %in; mad.wide.u32 %to, %lane, 16, %out;\n";

/// Copies of every size, of fewer bytes than that, and of none.
fn copy(form: &str) {
    let page: Vec<u64> = (0..64).map(noise).collect();
    let bytes: Vec<u8> = page.iter().flat_map(|word| word.to_le_bytes()).collect();
    for size in [4usize, 8, 16] {
        if form.contains(".cg") && size != 16 {
            continue;
        }
        for (behind, copied) in [
            (String::new(), size),
            (format!(", {}", size / 2), size / 2),
            (", %low".to_owned(), size),
        ] {
            let body = format!(
                "{POLICY}\n{TILE}{form} [%t], [%from], {size}{behind}{};\ncp.async.wait_all;\n\
                 ld.shared.b64 %w, [%t]; st.global.b64 [%to], %w; ld.shared.b64 %w, [%t+8]; st.global.b64 [%to+8], %w;",
                policy(form)
            );
            for (path, out) in results(&kernel(&body, ""), 32, &page, 64) {
                for lane in 0..32 {
                    // The predicate says whose source is ignored.
                    let copied = if behind.contains("%low") && lane < 16 {
                        0
                    } else {
                        copied
                    };
                    let mut want = [0u8; 16];
                    want[..copied].copy_from_slice(&bytes[lane * 16..][..copied]);
                    let got: Vec<u8> = out[lane * 2..][..2]
                        .iter()
                        .flat_map(|word| word.to_le_bytes())
                        .collect();
                    assert_eq!(
                        got, want,
                        "{form} of {size}{behind} in lane {lane} on {path:?}"
                    );
                }
            }
        }
    }
}

/// After a wait, what was copied before is there.
fn waiting(form: &str) {
    let operand = if form.ends_with("wait_group") {
        " 0"
    } else {
        ""
    };
    let body = format!(
        "{TILE}cp.async.ca.shared.global [%t], [%from], 8;\n{form}{operand};\n\
         cp.async.commit_group; cp.async.wait_group 0;\nld.shared.b64 %w, [%t]; st.global.b64 [%to], %w;"
    );
    let page: Vec<u64> = (0..64).map(noise).collect();
    for (path, out) in results(&kernel(&body, ""), 32, &page, 64) {
        for lane in 0..32 {
            assert_eq!(out[lane * 2], page[lane * 2], "{form} on {path:?}");
        }
    }
}

/// How a form names the barrier: by a name, or by a generic address.
fn barrier_address(form: &str) -> &'static str {
    if form.contains("shared") {
        "[bar]"
    } else {
        "[%b]"
    }
}

/// What a kernel with a barrier begins with: `%b` is the barrier's generic address, and it waits for `count`.
fn prepared(count: u32) -> String {
    format!(
        "{TILE}.reg .b64 %b, %s0, %s1; .reg .pred %q; .reg .b32 %n;\nmov.u64 %b, bar; cvta.shared.u64 %b, %b;\n\
         @%first mbarrier.init.shared.b64 [bar], {count};\nbar.sync 0;\n"
    )
}

/// The results of a kernel whose lanes leave a word each in `%n`.
fn words(form: &str, body: &str, want: impl Fn(u32) -> u32) {
    let body = format!("{body}\nst.global.b32 [%to], %n;");
    for (path, out) in results(&kernel(&body, ""), 32, &[], 64) {
        for lane in 0..32u32 {
            assert_eq!(
                out[lane as usize * 2] as u32,
                want(lane),
                "{form} in lane {lane} on {path:?}"
            );
        }
    }
}

/// One arrival for each lane where it counts for one; where it is one that is expected in addition, none.
fn completion(form: &str) {
    let body = format!(
        "{}cp.async.ca.shared.global [%t], [%from], 4;\n{form} {};\nbar.sync 0;\n\
         mbarrier.test_wait.parity.shared.b64 %q, [bar], 0; selp.b32 %n, 1, 0, %q;",
        prepared(32),
        barrier_address(form)
    );
    words(form, &body, |_| u32::from(form.contains("noinc")));
}

fn barrier(form: &str) {
    let at = barrier_address(form);
    let waits = |phase: u32| {
        format!(
            "mbarrier.test_wait.parity.shared.b64 %q, [bar], {phase}; selp.b32 %u, 1, 0, %q; shl.b32 %n, %n, 1; or.b32 %n, %n, %u; bar.sync 0;\n"
        )
    };
    let arrive = "mbarrier.arrive.shared.b64 %s1, [bar]; bar.sync 0;\n";
    match form.split('.').nth(1).unwrap_or("") {
        _ if form.contains("_tx") => transactions(form),
        // Sixteen are waited for, twice as many arrive: two phases are over, and the parity is as at first.
        "init" => {
            let body = format!(
                "{}@%first {form} {at}, 16;\nbar.sync 0; mov.b32 %n, 0;\n@%low {arrive}{}@%low {arrive}{}",
                prepared(32),
                waits(0),
                waits(1)
            );
            words(
                form,
                &body.replace(
                    "@%low mbarrier.arrive.shared.b64 %s1, [bar]; bar.sync 0;",
                    "@%low mbarrier.arrive.shared.b64 %s1, [bar];\nbar.sync 0;",
                ),
                |_| 0b11,
            );
        }
        // What was a barrier is memory again, and can be another one.
        "inval" => {
            let body = format!(
                "{}@%first {form} {at};\n@%first mbarrier.init.shared.b64 [bar], 32;\nbar.sync 0; mov.b32 %n, 0;\n{}{arrive}{}",
                prepared(5),
                waits(0),
                waits(0)
            );
            words(form, &body, |_| 0b01);
        }
        name @ ("arrive" | "arrive_drop") => {
            // Sixty-four are waited for: half of them come, each alone, the other half afterwards. Who drops out is not waited for in the next phase.
            let count = if form.contains("noComplete") {
                ", 1"
            } else {
                ""
            };
            let state = if form.contains("shared::cluster") {
                "_"
            } else {
                "%s0"
            };
            let next = if name == "arrive_drop" {
                arrive.to_owned()
            } else {
                arrive.repeat(2)
            };
            let body = format!(
                "{}mov.b32 %n, 0;\n{form} {state}, {at}{count};\nbar.sync 0;\n{}{arrive}{}{next}{}",
                prepared(64),
                waits(0),
                waits(0),
                waits(1)
            );
            words(form, &body, |_| 0b011);
        }
        "test_wait" | "try_wait" => {
            let operand = if form.contains("parity") { "0" } else { "%s0" };
            let body = format!(
                "{}mov.b32 %n, 0;\nmbarrier.arrive.shared.b64 %s0, [bar];\nbar.sync 0;\n\
                 {form} %q, {at}, {operand}; selp.b32 %n, 1, 0, %q; bar.sync 0;\n{arrive}\
                 {form} %q, {at}, {operand}; selp.b32 %u, 2, 0, %q; or.b32 %n, %n, %u;",
                prepared(64)
            );
            words(form, &body, |_| 0b10);
        }
        "pending_count" => {
            let body = format!(
                "{}mov.b32 %n, 0;\n@%first mbarrier.arrive.shared.b64 %s0, [bar];\n@!%first bra DONE;\n{form} %n, %s0;\nDONE:",
                prepared(64)
            );
            words(form, &body, |lane| if lane == 0 { 64 } else { 0 });
        }
        other => panic!("no reference of `mbarrier.{other}`"),
    }
}

/// A phase is not over when all have arrived, but when their transactions are complete too.
fn transactions(form: &str) {
    let at = barrier_address(form);
    let waits = "mbarrier.test_wait.parity.shared.b64 %q, [bar], 0; selp.b32 %u, 1, 0, %q; shl.b32 %n, %n, 1; or.b32 %n, %n, %u; bar.sync 0;\n";
    let given = |name: &str, plain: &str| match form.split('.').nth(1) == Some(name) {
        true => format!("{form} {at}, 4;"),
        false => plain.to_owned(),
    };
    let expect = given(
        "expect_tx",
        "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 4;",
    );
    let complete = given(
        "complete_tx",
        "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 4;",
    );
    let begin = match form.contains("arrive") {
        true if form.contains("shared::cluster") => format!("{form} _, {at}, 4;"),
        true => format!("{form} %s0, {at}, 4;"),
        false => format!("{expect} mbarrier.arrive.shared.b64 %s0, [bar];"),
    };
    let body = format!(
        "{}mov.b32 %n, 0;\n{begin}\nbar.sync 0;\n{waits}@%low {complete}\nbar.sync 0;\n{waits}@!%low {complete}\nbar.sync 0;\n{waits}",
        prepared(32)
    );
    words(form, &body, |_| 0b001);
}
