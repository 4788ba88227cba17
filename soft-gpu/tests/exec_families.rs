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

/// `st.async` and `red.async` are copies that a barrier is told of.
fn is_asynchronous(form: &str) -> bool {
    form.split('.').any(|part| part == "async")
}

#[test]
fn loads_are_as_the_isa_says() {
    families::transfers::check_loads(&forms("memory", |opcode| matches!(opcode, "ld" | "ldu")));
}

#[test]
fn stores_are_as_the_isa_says() {
    let mut forms = forms("memory", |opcode| opcode == "st");
    forms.retain(|form| !is_asynchronous(form));
    families::transfers::check_stores(&forms);
}

#[test]
fn atomics_are_as_the_isa_says() {
    let mut forms = forms("memory", |opcode| matches!(opcode, "atom" | "red"));
    forms.retain(|form| !is_asynchronous(form));
    families::atomics::check(&forms);
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
    for form in forms("memory", |_| true) {
        let opcode = form.split('.').next().unwrap_or("");
        // Boxes of tensors are in `exec_tensor.rs`, all of them.
        let is_tensor = form.contains(".tensor.");
        if !is_tensor && (!known.contains(&opcode) || is_asynchronous(&form)) {
            families::asynchronous::check(&form);
        }
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
