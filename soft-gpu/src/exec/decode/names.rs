//! What names mean inside a function, scope by scope.

use std::collections::HashMap;

use crate::ptx::Type;

use super::super::program::Special;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Binding {
    /// A range of registers `name0 … name(count-1)`, or a single one.
    Registers {
        first: u32,
        count: Option<u32>,
        ty: Type,
    },
    /// A variable in shared memory, by offset, with the bytes of an element.
    Shared(u32, u32),
    /// A variable or parameter in the frame's local memory, by offset, with its size and the bytes of an element.
    Local(u32, u32, u32),
    /// A kernel parameter, by offset.
    KernelParam(u32),
}

/// A register: its number and type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Register {
    pub(super) number: u32,
    pub(super) ty: Type,
}

/// The scopes that are open.
#[derive(Default)]
pub(super) struct Names<'t> {
    scopes: Vec<HashMap<&'t str, Binding>>,
    /// Ranges of registers by the part of their names before the number.
    ranges: Vec<HashMap<&'t str, Binding>>,
}

impl<'t> Names<'t> {
    pub(super) fn open(&mut self) {
        self.scopes.push(HashMap::new());
        self.ranges.push(HashMap::new());
    }

    pub(super) fn close(&mut self) {
        self.scopes.pop();
        self.ranges.pop();
    }

    /// Binds `name` in the innermost scope.
    pub(super) fn bind(&mut self, name: &'t str, binding: Binding) {
        let is_range = matches!(binding, Binding::Registers { count: Some(_), .. });
        let scopes = if is_range {
            &mut self.ranges
        } else {
            &mut self.scopes
        };
        if let Some(scope) = scopes.last_mut() {
            scope.insert(name, binding);
        }
    }

    /// What `name` is bound to.
    pub(super) fn find(&self, name: &str) -> Option<Binding> {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        for (scope, ranges) in self.scopes.iter().zip(&self.ranges).rev() {
            if let Some(binding) = scope.get(name) {
                return Some(*binding);
            }
            // A prefix may itself end in digits: `%r1<4>` declares `%r10` to `%r13`.
            for split in (name.len() - digits..name.len()).filter(|_| digits > 0) {
                if let Some(binding) = numbered(ranges, name, split) {
                    return Some(binding);
                }
            }
        }
        None
    }

    /// The register called `name`.
    pub(super) fn register(&self, name: &str) -> Option<Register> {
        match self.find(name)? {
            Binding::Registers { first, ty, .. } => Some(Register { number: first, ty }),
            _ => None,
        }
    }
}

/// The register of a range whose name is `name`, taken apart at `split`.
fn numbered(ranges: &HashMap<&str, Binding>, name: &str, split: usize) -> Option<Binding> {
    let (prefix, digits) = name.split_at(split);
    let Binding::Registers {
        first,
        count: Some(count),
        ty,
    } = *ranges.get(prefix)?
    else {
        return None;
    };
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    let number = digits
        .parse::<u32>()
        .ok()
        .filter(|&number| number < count)?;
    Some(Binding::Registers {
        first: first + number,
        count: None,
        ty,
    })
}

/// A special register that stays the same, with whether it is 64 bits wide.
pub(super) fn special(name: &str) -> Option<Special> {
    let (base, dimension) = match name.rsplit_once('.') {
        Some((base, "x")) => (base, 0),
        Some((base, "y")) => (base, 1),
        Some((base, "z")) => (base, 2),
        Some(_) => return None,
        None => (name, 3),
    };
    Some(match (base, dimension) {
        ("%tid", 0..3) => Special::Thread(dimension),
        ("%ntid", 0..3) => Special::BlockSize(dimension),
        ("%ctaid", 0..3) => Special::Block(dimension),
        ("%nctaid", 0..3) => Special::GridSize(dimension),
        ("%clusterid", 0..3) => Special::Cluster(dimension),
        ("%nclusterid", 0..3) => Special::ClusterGridSize(dimension),
        ("%cluster_ctaid", 0..3) => Special::BlockInCluster(dimension),
        ("%cluster_nctaid", 0..3) => Special::ClusterSize(dimension),
        ("%cluster_ctarank", 3) => Special::ClusterRank,
        ("%cluster_nctarank", 3) => Special::ClusterBlocks,
        ("%laneid", 3) => Special::LaneId,
        ("%warpid", 3) => Special::WarpId,
        ("%nwarpid", 3) => Special::WarpCount,
        ("%lanemask_eq", 3) => Special::MaskEqual,
        ("%lanemask_le", 3) => Special::MaskLessEqual,
        ("%lanemask_lt", 3) => Special::MaskLess,
        ("%lanemask_ge", 3) => Special::MaskGreaterEqual,
        ("%lanemask_gt", 3) => Special::MaskGreater,
        ("%dynamic_smem_size", 3) => Special::DynamicSharedBytes,
        ("%total_smem_size", 3) => Special::TotalSharedBytes,
        ("%gridid", 3) => Special::GridId,
        ("%smid", 3) => Special::Multiprocessor,
        ("%nsmid", 3) => Special::MultiprocessorCount,
        (name, 3) if name.starts_with("%envreg") => {
            let number = name["%envreg".len()..].parse().ok();
            Special::Environment(number.filter(|&number| number < 32)?)
        }
        _ => return None,
    })
}
