//! Where things lie: offsets in parameter buffers, bytes of initialisers.

use super::{PtxError, Type};

/// Rounds `offset` up to a multiple of `align`, a power of two.
pub(crate) fn align_up(offset: u64, align: u64) -> u64 {
    offset.saturating_add(align - 1) & !(align - 1)
}

/// The value of an initialiser element.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    /// Bits of an integer.
    Integer(u64),
    /// A single's bits.
    Single(u32),
    /// A double's bits.
    Double(u64),
}

/// Appends `value` as one element of type `ty`.
pub(super) fn append_scalar(
    bytes: &mut Vec<u8>,
    ty: Type,
    value: Scalar,
    line: u32,
) -> Result<(), PtxError> {
    let bits = match (ty, value) {
        (_, Scalar::Integer(bits)) if !matches!(ty, Type::F32 | Type::F64) => bits,
        (Type::F32, Scalar::Integer(bits)) => u64::from((bits as i64 as f32).to_bits()),
        (Type::F64, Scalar::Integer(bits)) => (bits as i64 as f64).to_bits(),
        (Type::F64, Scalar::Single(bits)) => f64::from(f32::from_bits(bits)).to_bits(),
        (Type::F32, Scalar::Double(bits)) => u64::from((f64::from_bits(bits) as f32).to_bits()),
        (_, Scalar::Single(bits)) => u64::from(bits),
        (_, Scalar::Double(bits)) => bits,
        (_, Scalar::Integer(bits)) => bits,
    };
    let size = ty.bytes() as usize;
    if size > 8 {
        return Err(PtxError {
            line,
            message: "initialiser of 128-bit elements".into(),
        });
    }
    bytes.extend_from_slice(&bits.to_le_bytes()[..size]);
    Ok(())
}
