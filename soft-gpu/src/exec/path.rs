//! Which vector instructions the machine has.

/// A build of the handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// What every machine of the architecture has.
    Plain,
    /// AVX2, FMA and BMI.
    Avx2,
    /// AVX-512 F, BW, DQ, VL, CD beside AVX2.
    Avx512,
}

impl Path {
    /// The best path of this machine.
    pub fn detect() -> Path {
        Path::available().last().copied().unwrap_or(Path::Plain)
    }

    /// All paths of this machine, the best one last.
    pub fn available() -> &'static [Path] {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512cd");
            if avx512 {
                return &[Path::Plain, Path::Avx2, Path::Avx512];
            }
            if avx2 {
                return &[Path::Plain, Path::Avx2];
            }
        }
        &[Path::Plain]
    }
}
