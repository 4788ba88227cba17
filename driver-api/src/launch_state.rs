//! What a function is launched with by the interface that `cuLaunchKernel` replaced: set piece by piece, and kept with the function.

use core::ffi::c_void;

use crate::result::CUresult;

/// Most bytes of parameters: what CUDA 12.1 and later allow.
const MAX_PARAMETER_BYTES: usize = 32_764;

/// Block, shared memory and parameters of the next launch.
#[derive(Debug, Default)]
pub struct LaunchState {
    /// Threads of a block; zeros until it is said.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, bytes.
    pub shared_bytes: u32,
    parameters: Vec<u8>,
    bytes: usize,
}

impl LaunchState {
    /// `cuFuncSetBlockShape`.
    ///
    /// # Errors
    /// A dimension is not positive.
    pub fn set_block(&mut self, block: [i32; 3]) -> Result<(), CUresult> {
        let counts = block.map(|count| u32::try_from(count).unwrap_or(0));
        if counts.contains(&0) {
            return Err(CUresult::INVALID_VALUE);
        }
        self.block = counts;
        Ok(())
    }

    /// `cuParamSetSize`.
    ///
    /// # Errors
    /// No kernel has so many.
    pub fn set_size(&mut self, bytes: u32) -> Result<(), CUresult> {
        let bytes = bytes as usize;
        if bytes > MAX_PARAMETER_BYTES {
            return Err(CUresult::INVALID_VALUE);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// `cuParamSeti`, `cuParamSetf`, `cuParamSetv`.
    ///
    /// # Errors
    /// The place is none of parameters.
    pub fn put(&mut self, offset: i32, value: &[u8]) -> Result<(), CUresult> {
        let start = usize::try_from(offset).map_err(|_| CUresult::INVALID_VALUE)?;
        let end = start.saturating_add(value.len());
        if end > MAX_PARAMETER_BYTES {
            return Err(CUresult::INVALID_VALUE);
        }
        if end > self.parameters.len() {
            self.parameters.resize(end, 0);
        }
        self.parameters[start..end].copy_from_slice(value);
        Ok(())
    }

    /// The parameters: as many bytes as were said.
    #[must_use]
    pub fn parameters(&self) -> Vec<u8> {
        let mut parameters = self.parameters.clone();
        parameters.resize(self.bytes, 0);
        parameters
    }
}

/// Calls something with parameters as `cuLaunchKernel`'s `extra`.
pub fn with_extra<T>(parameters: &mut [u8], then: impl FnOnce(*mut *mut c_void) -> T) -> T {
    /// Keys: the buffer, a pointer to its size, the end.
    const BUFFER_POINTER: usize = 1;
    const BUFFER_SIZE: usize = 2;
    const END: usize = 0;
    let key = core::ptr::without_provenance_mut::<c_void>;
    let mut size = parameters.len();
    let mut extra = [
        key(BUFFER_POINTER),
        parameters.as_mut_ptr().cast(),
        key(BUFFER_SIZE),
        (&raw mut size).cast(),
        key(END),
    ];
    then(extra.as_mut_ptr())
}

/// The grid of a launch in two dimensions.
///
/// # Errors
/// A dimension is not positive.
pub fn grid(width: i32, height: i32) -> Result<[u32; 3], CUresult> {
    let positive = |count: i32| u32::try_from(count).ok().filter(|count| *count > 0);
    match (positive(width), positive(height)) {
        (Some(width), Some(height)) => Ok([width, height, 1]),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_parameters() {
        let mut state = LaunchState::default();
        assert_eq!(state.set_block([1, 0, 1]), Err(CUresult::INVALID_VALUE));
        assert_eq!(state.set_block([8, 2, 1]), Ok(()));
        assert_eq!(state.put(4, &[1, 2]), Ok(()));
        assert_eq!(state.put(-1, &[1]), Err(CUresult::INVALID_VALUE));
        assert_eq!(state.put(i32::MAX, &[1]), Err(CUresult::INVALID_VALUE));
        assert_eq!(state.set_size(u32::MAX), Err(CUresult::INVALID_VALUE));
        assert_eq!(state.set_size(8), Ok(()));
        assert_eq!(state.parameters(), [0, 0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(grid(3, 2), Ok([3, 2, 1]));
        assert_eq!(grid(3, -2), Err(CUresult::INVALID_VALUE));
    }
}
