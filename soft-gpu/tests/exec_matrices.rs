//! Products of matrices, and what moves their fragments: every form of the device's own table, on every path.

mod matrices;
mod support;

use soft_gpu::exec::{FaultKind, Program, syntax};
use soft_gpu::ptx;
use support::{Run, kernels};

/// The forms of an opcode, or of several.
fn forms(opcodes: &[&str]) -> Vec<String> {
    let forms = syntax::forms("matrix").into_iter();
    let is_wanted = |form: &String| opcodes.contains(&form.split('.').next().unwrap_or(""));
    forms.filter(is_wanted).collect()
}

#[test]
fn mma_of_every_form() {
    forms(&["mma"])
        .iter()
        .for_each(|form| matrices::mma::check(form));
}

#[test]
fn wmma_of_every_form() {
    let forms = forms(&["wmma"]);
    let products: Vec<&String> = forms
        .iter()
        .filter(|form| form.starts_with("wmma.mma"))
        .collect();
    let executed = matrices::wmma::check_all(&products);
    let missing: Vec<&String> = forms
        .iter()
        .filter(|form| !executed.contains(*form))
        .collect();
    assert!(missing.is_empty(), "not executed: {missing:#?}");
}

#[test]
fn tiles_of_every_form() {
    forms(&["ldmatrix", "movmatrix"])
        .iter()
        .for_each(|form| matrices::tiles::check(form));
}

#[test]
fn no_other_opcode_is_of_matrices() {
    let known = forms(&["mma", "wmma", "ldmatrix", "movmatrix"]);
    assert_eq!(known.len(), syntax::forms("matrix").len());
}

#[test]
fn wmma_of_misaligned_lines_is_a_fault() {
    const TEXT: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 pa)
{
    .reg .b32 %a<1>;
    .reg .b64 %p<1>;
    ld.param.u64 %p0, [pa];
    wmma.load.a.sync.aligned.row.m8n8k128.global.b1 {%a0}, [%p0], 7;
    st.global.b32 [%p0], %a0;
    ret;
}
";
    for kernel in kernels(TEXT, "k") {
        let mut words = vec![0u32; 64];
        let mut run = Run::new(&kernel, 1, 32);
        let arguments = [run.buffer(&mut words)];
        let fault = run.launch(&arguments).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Misaligned, "on {:?}", kernel.path);
    }
}

#[test]
fn wmma_lacks_aligned_only_in_old_texts() {
    let decoded = |version: &str| {
        let text = format!(
            ".version {version}\n.target sm_70\n.address_size 64\n.entry k() {{\n.reg .b32 %a<8>; .reg .b64 %p;\n\
             wmma.load.c.sync.row.m16n16k16.global.f32 {{%a0, %a1, %a2, %a3, %a4, %a5, %a6, %a7}}, [%p];\n}}"
        );
        Program::decode(&ptx::parse(&text).unwrap(), "k", &|_| None)
    };
    assert!(decoded("6.2").is_ok());
    let error = decoded("6.3").unwrap_err().to_string();
    assert!(error.contains("lacks `.aligned`"), "{error}");
}
