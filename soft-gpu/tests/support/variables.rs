//! The variables of a module, in place of what a driver does when it loads one.

use soft_gpu::ptx;

/// A module's variables in a buffer, with their addresses.
pub(crate) struct Variables {
    pub(crate) bytes: Vec<u64>,
    places: Vec<(String, u64)>,
}

impl Variables {
    pub(crate) fn of(module: &ptx::Module) -> Variables {
        let mut variables = Variables {
            bytes: vec![0u64; 4096],
            places: Vec::new(),
        };
        let base = variables.bytes.as_mut_ptr() as u64;
        let mut next = 0u64;
        for global in module.globals() {
            next = next.next_multiple_of(u64::from(global.align.max(8)));
            variables.places.push((global.name.clone(), base + next));
            for (index, byte) in global.init.iter().enumerate() {
                let at = next as usize + index;
                variables.bytes[at / 8] |= u64::from(*byte) << (8 * (at % 8));
            }
            next += global.size;
        }
        for (global, (_, place)) in module.globals().zip(variables.places.clone()) {
            for relocation in &global.relocations {
                let symbol = &relocation.symbol;
                let variable = variables.address(symbol);
                let target = variable.or_else(|| module.function_address(symbol));
                variables.bytes[(place - base + relocation.offset) as usize / 8] =
                    target.unwrap().wrapping_add(relocation.addend as u64);
            }
        }
        variables
    }

    pub(crate) fn address(&self, name: &str) -> Option<u64> {
        let known = self.places.iter().find(|(known, _)| known == name);
        known.map(|place| place.1)
    }
}
