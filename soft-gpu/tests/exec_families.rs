//! Every form of the instructions that are more than one lane's affair, by the device's own table: memory, the warp, the block, and where to go
//! on. A form without a reference fails its family's test. Products of matrices are in `exec_matrices.rs`.

mod families;
mod support;

use soft_gpu::exec::syntax;

/// The forms of a family whose opcodes `wanted` names.
fn forms(family: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let opcode = |form: &String| form.split('.').next().unwrap_or("").to_owned();
    let forms: Vec<String> = syntax::forms(family)
        .into_iter()
        .filter(|form| wanted(&opcode(form)))
        .collect();
    assert!(!forms.is_empty(), "no forms of {family}");
    forms
}

#[test]
fn loads_are_as_the_isa_says() {
    families::transfers::check_loads(&forms("memory", |opcode| matches!(opcode, "ld" | "ldu")));
}

#[test]
fn stores_are_as_the_isa_says() {
    families::transfers::check_stores(&forms("memory", |opcode| opcode == "st"));
}

#[test]
fn atomics_are_as_the_isa_says() {
    families::atomics::check(&forms("memory", |opcode| matches!(opcode, "atom" | "red")));
}

#[test]
fn wide_transfers_are_as_the_isa_says() {
    families::quad::check(&forms("quad", |_| true));
}

#[test]
fn what_several_devices_have_is_as_the_isa_says() {
    families::multimem::check(&forms("memory", |opcode| opcode == "multimem"));
    families::multimem::check_precision();
    families::multimem::check_faults();
}

#[test]
fn copies_barriers_orders_and_hints_are_as_the_isa_says() {
    let known = ["ld", "ldu", "st", "atom", "red", "multimem"];
    for form in forms("memory", |opcode| !known.contains(&opcode)) {
        families::asynchronous::check(&form);
    }
}

#[test]
fn warps_and_blocks_are_as_the_isa_says() {
    for form in forms("warp", |_| true) {
        families::warp::check(&form);
    }
}

#[test]
fn special_registers_are_as_the_isa_says() {
    families::control::check_special_registers();
}
