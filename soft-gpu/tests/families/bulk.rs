//! Bulk copies and reductions, `st.async` and `red.async`: each lane's own bytes, of a block that is its own cluster. Several blocks are in `exec_bulk.rs`.

use super::atomics::{after, operands};
use super::{POLICY, kernel, noise, policy, results, width};

const LANES: usize = 32;
/// Bytes of each lane: a source and a destination in shared memory.
const BYTES: usize = 16;

/// What every kernel begins with: `%from` and `%to` are a lane's bytes of the page and of the results, `%s` and `%d` its places in shared memory, `%gs` and
/// `%gd` their generic addresses. The source is filled from the page, the destination from behind it.
fn begin() -> String {
    format!(
        "{POLICY}\n.shared .align 16 .b8 source[512]; .shared .align 16 .b8 destination[512]; .shared .align 8 .b64 bar;\n\
         .reg .b32 %s, %d, %b; .reg .b64 %gs, %gd, %gb, %from, %to, %w, %x, %state; .reg .pred %p, %first; .reg .b16 %mask; .reg .b32 %n;\n\
         mov.u32 %s, source; mad.lo.u32 %s, %lane, {BYTES}, %s; mov.u32 %d, destination; mad.lo.u32 %d, %lane, {BYTES}, %d; mov.u32 %b, bar;\n\
         cvt.u64.u32 %gs, %s; cvta.shared.u64 %gs, %gs; cvt.u64.u32 %gd, %d; cvta.shared.u64 %gd, %gd; cvt.u64.u32 %gb, %b; cvta.shared.u64 %gb, %gb;\n\
         mad.wide.u32 %from, %lane, {BYTES}, %in; mad.wide.u32 %to, %lane, {BYTES}, %out; mov.b16 %mask, 1; setp.eq.u32 %first, %lane, 0;\n\
         ld.global.v2.b64 {{%w, %x}}, [%from]; st.shared.v2.b64 [%s], {{%w, %x}};\n\
         ld.global.v2.b64 {{%w, %x}}, [%from+512]; st.shared.v2.b64 [%d], {{%w, %x}}; st.global.v2.b64 [%to], {{%w, %x}};\n\
         @%first mbarrier.init.shared::cta.b64 [bar], 1;\nfence.proxy.async; bar.sync 0;\n"
    )
}

/// What a kernel does around what tells the end of it to the barrier: the transactions of all lanes are expected and awaited.
fn awaited(instruction: &str, bytes: usize) -> String {
    format!(
        "@%first mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 %state, [bar], {};\n{instruction}\n\
         WAIT: mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p, [bar], 0; @!%p bra WAIT;\n\
         ld.shared.v2.b64 {{%w, %x}}, [%d]; st.global.v2.b64 [%to], {{%w, %x}};",
        bytes * LANES
    )
}

/// The results of `body`, and what they must be.
fn check_bytes(form: &str, body: &str, page: &[u64], want: &[u64]) {
    for (path, out) in results(&kernel(&(begin() + body), ""), 32, page, LANES * 2) {
        assert_eq!(out, want, "{form} on {path:?}");
    }
}

/// Elements of a type in sixteen bytes of each lane: what comes, and what was there.
fn pages(ty: &str) -> (Vec<u64>, Vec<u64>) {
    let bits = width(ty);
    let each = 64 / bits as usize;
    let element = |index: usize, which: usize| operands(ty, index)[which];
    let words = |which: usize| {
        let word = |at: usize| {
            (0..each).fold(0u64, |word, part| {
                let element = element(at * each + part, which);
                word | (element & (u64::MAX >> (64 - bits))) << (part as u32 * bits)
            })
        };
        (0..LANES * 2).map(word).collect()
    };
    (words(1), words(0))
}

/// Words whose elements were changed.
fn changed(operation: &str, ty: &str, come: &[u64], there: &[u64]) -> Vec<u64> {
    let bits = width(ty);
    let of_word = |(&come, &there): (&u64, &u64)| {
        (0..64 / bits).fold(0u64, |word, part| {
            let part = part * bits;
            let cut = |word: u64| word >> part & (u64::MAX >> (64 - bits));
            word | after(operation, ty, [cut(there), cut(come), 0]) << part
        })
    };
    come.iter().zip(there).map(of_word).collect()
}

/// The reduction and the type that a form says.
fn reduction(form: &str) -> Option<(&str, &str)> {
    let operations = ["add", "and", "or", "xor", "min", "max", "inc", "dec"];
    let operation = form.split('.').find(|part| operations.contains(part))?;
    Some((operation, form.rsplit('.').next().expect("a type")))
}

pub(crate) fn check(form: &str) {
    let has = |part: &str| form.split('.').any(|other| other == part);
    let plain: Vec<u64> = (0..LANES * 4).map(noise).collect();
    let (come, there) = match reduction(form) {
        Some((_, ty)) => pages(ty),
        None => (plain[..LANES * 2].to_vec(), plain[LANES * 2..].to_vec()),
    };
    let page = [come.clone(), there.clone()].concat();
    let want = match reduction(form) {
        Some((operation, ty)) => changed(operation, ty, &come, &there),
        None => come.clone(),
    };
    let hint = policy(form);
    let mask = if has("multicast::cluster") {
        ", %mask"
    } else {
        ""
    };
    match form.split('.').next().unwrap_or("") {
        "st" | "red" => remote(form, &page, &come, &there),
        _ if has("commit_group") || has("wait_group") => {
            let operand = if has("wait_group") { " 0" } else { "" };
            let copy = "cp.async.bulk.global.shared::cta.bulk_group [%to], [%s], 16;";
            let body = format!(
                "{copy}\n{form}{operand};\ncp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
            );
            check_bytes(form, &body, &page, &want);
        }
        _ if has("prefetch") => {
            check_bytes(form, &format!("{form} [%from], 16{hint};"), &page, &there);
        }
        _ if has("bulk_group") => {
            let body = format!(
                "{form} [%to], [%s], 16{hint};\ncp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0; cp.async.bulk.wait_group 0;"
            );
            check_bytes(form, &body, &page, &want);
        }
        _ => {
            let from = if has("global") { "%from" } else { "%s" };
            let body = awaited(
                &format!("{form} [%d], [{from}], 16, [bar]{mask}{hint};"),
                BYTES,
            );
            check_bytes(form, &body, &page, &want);
        }
    }
}

/// Each lane's elements to its own place, as one vector.
fn remote(form: &str, page: &[u64], come: &[u64], there: &[u64]) {
    let has = |part: &str| form.split('.').any(|other| other == part);
    let ty = form.rsplit('.').next().expect("a type");
    let count = if has("v4") {
        4
    } else {
        1 + usize::from(has("v2"))
    };
    let bytes = width(ty) as usize / 8;
    let names: Vec<String> = (0..count).map(|index| format!("%v{index}")).collect();
    let mut text = format!(".reg .b{} %v<4>;\n", width(ty));
    for (index, name) in names.iter().enumerate() {
        text += &format!("ld.shared.b{} {name}, [%s+{}];\n", width(ty), index * bytes);
    }
    let value = match count {
        1 => names.concat(),
        _ => format!("{{{}}}", names.join(", ")),
    };
    let (to, bar) = match has("shared::cluster") {
        true => ("%d", "%b"),
        false => ("%gd", "%gb"),
    };
    text += &awaited(&format!("{form} [{to}], {value}, [{bar}];"), bytes * count);
    let whole = match reduction(form) {
        Some((operation, ty)) => changed(operation, ty, come, there),
        None => come.to_vec(),
    };
    // What lies behind the vector is as it was.
    let mut want = there.to_vec();
    for lane in 0..LANES {
        for (index, word) in want[lane * 2..][..2].iter_mut().enumerate() {
            let covered = (bytes * count).saturating_sub(index * 8).min(8) as u32;
            if covered > 0 {
                let mask = u64::MAX >> (64 - 8 * covered);
                *word = *word & !mask | whole[lane * 2 + index] & mask;
            }
        }
    }
    check_bytes(form, &text, page, &want);
}
