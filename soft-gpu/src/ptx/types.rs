//! The scalar types and state spaces of PTX.

/// A PTX fundamental type, as written after the last dots of an opcode or in a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the PTX type of the same name")]
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
    U16x2,
    S16x2,
}

/// What the bits of a type mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `.pred`
    Predicate,
    /// `.b*`: untyped bits
    Bits,
    /// `.u*`
    Unsigned,
    /// `.s*`
    Signed,
    /// `.f*`, `.bf*`, `.tf32`
    Float,
}

impl Type {
    /// The type named `name` (without its dot), if it is one.
    pub fn from_name(name: &str) -> Option<Type> {
        use Type::*;
        Some(match name {
            "pred" => Pred,
            "b8" => B8,
            "b16" => B16,
            "b32" => B32,
            "b64" => B64,
            "b128" => B128,
            "u8" => U8,
            "u16" => U16,
            "u32" => U32,
            "u64" => U64,
            "s8" => S8,
            "s16" => S16,
            "s32" => S32,
            "s64" => S64,
            "f16" => F16,
            "f16x2" => F16x2,
            "bf16" => Bf16,
            "bf16x2" => Bf16x2,
            "tf32" => Tf32,
            "f32" => F32,
            "f64" => F64,
            "u16x2" => U16x2,
            "s16x2" => S16x2,
            _ => return None,
        })
    }

    /// Size in bytes; a predicate counts as four, as a register row stores it.
    pub fn bytes(self) -> u32 {
        use Type::*;
        match self {
            B8 | U8 | S8 => 1,
            B16 | U16 | S16 | F16 | Bf16 => 2,
            Pred | B32 | U32 | S32 | F32 | F16x2 | Bf16x2 | Tf32 | U16x2 | S16x2 => 4,
            B64 | U64 | S64 | F64 => 8,
            B128 => 16,
        }
    }

    /// What the bits mean.
    pub fn class(self) -> Class {
        use Type::*;
        match self {
            Pred => Class::Predicate,
            B8 | B16 | B32 | B64 | B128 => Class::Bits,
            U8 | U16 | U32 | U64 | U16x2 => Class::Unsigned,
            S8 | S16 | S32 | S64 | S16x2 => Class::Signed,
            F16 | F16x2 | Bf16 | Bf16x2 | Tf32 | F32 | F64 => Class::Float,
        }
    }

    /// Whether a register of this type needs a row of 64-bit lanes.
    pub fn is_wide(self) -> bool {
        self.bytes() == 8
    }
}

/// A PTX state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Device memory.
    Global,
    /// Constant memory; here ordinary device memory.
    Const,
    /// Memory of one block.
    Shared,
    /// Memory of the blocks of a cluster.
    Cluster,
    /// Memory of one thread.
    Local,
    /// Parameters of kernels and functions.
    Param,
    /// No space written: any of the above, found from the address.
    Generic,
}

impl Space {
    /// The space named `name` (without its dot), if it is one.
    pub fn from_name(name: &str) -> Option<Space> {
        Some(match name {
            "global" => Space::Global,
            "const" => Space::Const,
            "shared" | "shared::cta" => Space::Shared,
            "shared::cluster" => Space::Cluster,
            "local" => Space::Local,
            "param" | "param::entry" | "param::func" => Space::Param,
            _ => return None,
        })
    }
}
