//! What a program's compilers are asked for on the way to a software GPU: PTX, which is all that it executes.
//!
//! *What:* variables of the environment by which CuPy hands over PTX rather than machine code, and XLA (JAX) leaves it in the machine code. *Rules:* what the
//! user has said stands; nothing is set for devices of NVIDIA.

use std::ffi::{OsStr, OsString};

/// CuPy's, and what it is set to.
const CUPY: (&str, &str) = ("CUPY_COMPILE_WITH_PTX", "1");
/// XLA's list of flags, and the one by which its cubins carry their PTX.
const XLA: &str = "XLA_FLAGS";
const XLA_LINE_INFO: &str = "--xla_gpu_generate_line_info";

/// The variables to set, where the environment has these.
pub(crate) fn variables(
    present: impl Fn(&str) -> Option<OsString>,
) -> Vec<(&'static str, OsString)> {
    let mut variables = Vec::new();
    if present(CUPY.0).is_none() {
        variables.push((CUPY.0, CUPY.1.into()));
    }
    if let Some(flags) = xla_flags(present(XLA).as_deref()) {
        variables.push((XLA, flags));
    }
    variables
}

/// XLA's flags with line information, unless they say themselves whether they want it.
fn xla_flags(present: Option<&OsStr>) -> Option<OsString> {
    let present = present.unwrap_or_default();
    if present.to_string_lossy().contains(XLA_LINE_INFO) {
        return None;
    }
    let mut flags = present.to_owned();
    if !flags.is_empty() {
        flags.push(" ");
    }
    flags.push(format!("{XLA_LINE_INFO}=true"));
    Some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_has_said_stands() {
        let nothing = variables(|_| None);
        assert_eq!(
            nothing,
            [
                (CUPY.0, "1".into()),
                (XLA, "--xla_gpu_generate_line_info=true".into())
            ]
        );
        let said = |name: &str| match name {
            XLA => Some("--xla_gpu_generate_line_info=false".into()),
            _ => Some("0".into()),
        };
        assert_eq!(variables(said), []);
    }

    #[test]
    fn other_flags_of_xla_stay() {
        let flags = xla_flags(Some(OsStr::new("--xla_gpu_autotune_level=0")));
        let expected = "--xla_gpu_autotune_level=0 --xla_gpu_generate_line_info=true";
        assert_eq!(flags, Some(expected.into()));
    }
}
