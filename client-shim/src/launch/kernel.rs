//! A launch, checked and packed: what a stream is given, and what a node of a graph holds.
//!
//! # Safety
//! Parameters are read from the program's memory at the offsets and sizes of the kernel's own layout, by the contract of `cuLaunchKernel`.
#![expect(
    unsafe_code,
    reason = "the program's parameters are read where it says"
)]

use core::ffi::{c_uint, c_void};
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use driver_api::abi::{CUfunction, CUresult};
use driver_api::id::{FunctionId, StreamId};
use driver_api::wire::request::GpurunLaunch;

use crate::device::{Device, unsigned};
use crate::log;
use crate::memory::out;
use crate::module::{self, Function, LaunchShape, SpecialLaunch};
use crate::session::Session;
use crate::stream::Stream;

/// Most bytes of parameters: what CUDA 12.1 and later allow.
const MAX_PARAMETER_BYTES: usize = 32_764;
/// `CU_LAUNCH_PARAM_*` in `extra`.
const END: usize = 0;
const BUFFER_POINTER: usize = 1;
const BUFFER_SIZE: usize = 2;
/// Entries of `extra` that are looked at before it is refused as endless.
const MAX_EXTRA: usize = 8;
/// Device attributes: most blocks in x, y and z.
const MAX_GRID: [u32; 3] = [5, 6, 7];
/// Device attributes: most threads in x, y and z; together: 1.
const MAX_BLOCK: [u32; 3] = [2, 3, 4];
const MAX_THREADS: u32 = 1;

/// Launch attributes that hold no handle and mean the same on the server: access policy window (1), cooperative (2), synchronization policy (3), cluster
/// dimension (4), cluster scheduling (5), programmatic serialization (6), priority (8), domains of memory synchronization (9, 10), preferred cluster
/// (11), shared memory carve-out (14), whether clusters have to be portable (17).
const PLAIN_ATTRIBUTES: [c_uint; 12] = [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 14, 17];
/// Bytes of an attribute's value.
pub(crate) const VALUE_BYTES: usize = 64;

/// How a kernel is launched.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    pub(crate) cooperative: bool,
    pub(crate) attributes: Vec<(c_uint, [u8; VALUE_BYTES])>,
}

impl Shape {
    pub(crate) fn new(grid: [u32; 3], block: [u32; 3], shared_bytes: u32) -> Self {
        Self {
            grid,
            block,
            shared_bytes,
            cooperative: false,
            attributes: Vec::new(),
        }
    }

    /// Sets an attribute, in the place of one of the same kind.
    pub(crate) fn set_attribute(
        &mut self,
        id: c_uint,
        value: [u8; VALUE_BYTES],
    ) -> Result<(), CUresult> {
        if !PLAIN_ATTRIBUTES.contains(&id) {
            log::warn_once(
                "launch attributes",
                format_args!("launch attribute {id} is not supported"),
            );
            return Err(CUresult::NOT_SUPPORTED);
        }
        self.attributes.retain(|(other, _)| *other != id);
        self.attributes.push((id, value));
        Ok(())
    }

    /// The same sizes with another's attributes.
    pub(crate) fn with_attributes_of(&self, other: &Self) -> Self {
        Self {
            cooperative: other.cooperative,
            attributes: other.attributes.clone(),
            ..*self
        }
    }

    /// What the device's limits refuse.
    fn check(&self, device: &Device) -> Result<(), CUresult> {
        let within = |sizes: &[u32; 3], limits: &[u32; 3]| {
            sizes.iter().zip(limits).all(|(size, limit)| {
                *size > 0 && *size <= unsigned(device.attribute(*limit).unwrap_or(0))
            })
        };
        let threads: u64 = self.block.iter().map(|size| u64::from(*size)).product();
        let most = u64::from(unsigned(device.attribute(MAX_THREADS).unwrap_or(0)));
        if within(&self.grid, &MAX_GRID) && within(&self.block, &MAX_BLOCK) && threads <= most {
            Ok(())
        } else {
            Err(CUresult::INVALID_VALUE)
        }
    }
}

/// A launch that only wants a stream.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As the program named it.
    pub(crate) handle: CUfunction,
    function: Arc<Function>,
    pub(crate) shape: Shape,
    /// The attributes as they travel, then the parameters as the kernel lays them out.
    rest: Vec<u8>,
    /// Where each parameter is in `rest`, for who asks a node.
    places: OnceLock<Vec<usize>>,
}

impl Kernel {
    /// What `dot` writes on a node: the name, and the shape for who asks for it.
    pub(crate) fn label(&self, flags: c_uint) -> String {
        /// `CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE` and `…_KERNEL_NODE_PARAMS`.
        const WITH_SHAPE: c_uint = 1 | 4;
        let name = self.function.name.to_string_lossy();
        if flags & WITH_SHAPE == 0 {
            return name.into_owned();
        }
        let (grid, block) = (self.shape.grid, self.shape.block);
        let shared = self.shape.shared_bytes;
        format!("{name}\\ngrid {grid:?}\\nblock {block:?}\\nshared {shared}")
    }

    /// # Safety
    /// The contract of `cuLaunchKernel` for the last two.
    pub(crate) unsafe fn new(
        device: &Device,
        shape: Shape,
        handle: CUfunction,
        kernel_params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> Result<Self, CUresult> {
        let function = module::function_of(handle)?;
        shape.check(device)?;
        let mut rest = attributes(&shape);
        // SAFETY: the caller's promise.
        unsafe { pack(&function, kernel_params, extra, &mut rest) }?;
        Ok(Self {
            handle,
            function,
            shape,
            rest,
            places: OnceLock::new(),
        })
    }

    /// The same kernel with the same parameters, launched in another way.
    pub(crate) fn with_shape(&self, shape: Shape) -> Self {
        let mut rest = attributes(&shape);
        rest.extend_from_slice(self.parameters());
        Self {
            handle: self.handle,
            function: Arc::clone(&self.function),
            shape,
            rest,
            places: OnceLock::new(),
        }
    }

    fn parameters(&self) -> &[u8] {
        let attributes = self.shape.attributes.len() * ATTRIBUTE_BYTES;
        self.rest.get(attributes..).unwrap_or_default()
    }

    /// Pointers to the parameters, as `cuLaunchKernel` takes them; they stay as long as this does.
    pub(crate) fn places(&self) -> *mut *mut c_void {
        let places = self.places.get_or_init(|| {
            let parameters = self.function.parameters.as_deref().unwrap_or_default();
            let place = |offset: u32| self.parameters().get(offset as usize..);
            let each = parameters.iter().filter_map(|(offset, _)| place(*offset));
            each.map(|place| place.as_ptr().expose_provenance())
                .collect()
        });
        if places.is_empty() {
            core::ptr::null_mut()
        } else {
            places.as_ptr().cast_mut().cast()
        }
    }

    fn request(&self, stream: StreamId) -> GpurunLaunch {
        GpurunLaunch::new(
            FunctionId(self.function.id),
            self.shape.grid,
            self.shape.block,
            self.shape.shared_bytes,
            stream,
            u32::from(self.shape.cooperative),
            self.shape.attributes.len() as u32,
        )
    }

    /// As it travels in a graph: of no stream.
    pub(crate) fn of_graph(&self) -> (GpurunLaunch, &[u8]) {
        (self.request(StreamId(0)), &self.rest)
    }

    /// Lets the device reach the pinned memory that the parameters name.
    pub(crate) fn map_named(&self, session: &Session) {
        session.objects.memory.map_named(session, self.parameters());
    }

    /// Whether a parameter, or a part of one, is one of these values.
    pub(crate) fn names(&self, values: &HashSet<u64>) -> bool {
        let (words, _) = self.parameters().as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        words.any(|word| values.contains(&word))
    }

    /// What a launch that is not plain is known by.
    fn special(&self) -> Option<Box<SpecialLaunch>> {
        let count = self.shape.attributes.len();
        if count == 0 && !self.shape.cooperative {
            return None;
        }
        let attributes = self.rest.get(..count * ATTRIBUTE_BYTES);
        Some(Box::new(SpecialLaunch {
            cooperative: self.shape.cooperative,
            grid: self.shape.grid,
            attributes: attributes.unwrap_or_default().to_vec(),
        }))
    }

    /// Launches: posted where the driver has accepted such a launch before, else asked.
    pub(crate) fn post(&self, session: &Session, stream: &Stream) -> Result<(), CUresult> {
        self.map_named(session);
        let Shape {
            block,
            shared_bytes,
            ..
        } = self.shape;
        let request = self.request(stream.wire_id());
        let shape = LaunchShape {
            block,
            shared_bytes,
            context: stream.context,
            special: self.special(),
        };
        session.objects.memory.mapped.with_kernel(|| {
            if self.function.is_accepted(&shape) {
                return session.post_work(stream, &request, &self.rest);
            }
            session.ask_work(stream, &request, &self.rest)?;
            self.function.accept(shape);
            Ok(())
        })
    }
}

/// Bytes of an attribute on the wire: as in `CUlaunchAttribute`.
const ATTRIBUTE_BYTES: usize = 8 + VALUE_BYTES;

pub(crate) fn attributes(shape: &Shape) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, value) in &shape.attributes {
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(value);
    }
    bytes
}

/// Appends the parameters as the kernel lays them out.
///
/// # Safety
/// The contract of `cuLaunchKernel`.
unsafe fn pack(
    function: &Function,
    kernel_params: *mut *mut c_void,
    extra: *mut *mut c_void,
    packed: &mut Vec<u8>,
) -> Result<(), CUresult> {
    let bytes = function.parameter_bytes();
    match (kernel_params.is_null(), extra.is_null()) {
        (false, false) => Err(CUresult::INVALID_VALUE),
        // SAFETY: the caller's promise.
        (true, false) => unsafe { pack_buffer(bytes, extra, packed) },
        (true, true) if module::known_parameters(function)?.is_empty() => Ok(()),
        (true, true) => Err(CUresult::INVALID_VALUE),
        // SAFETY: the caller's promise.
        (false, true) => unsafe { pack_each(function, bytes, kernel_params, packed) },
    }
}

/// # Safety
/// `kernel_params` has a pointer for each parameter, to as many bytes as the parameter has.
unsafe fn pack_each(
    function: &Function,
    bytes: usize,
    kernel_params: *mut *mut c_void,
    packed: &mut Vec<u8>,
) -> Result<(), CUresult> {
    let base = packed.len();
    packed.resize(base + bytes, 0);
    for (index, (offset, size)) in module::known_parameters(function)?.iter().enumerate() {
        // SAFETY: the caller's promise.
        let parameter = out(unsafe { kernel_params.add(index).read() })?;
        let place = base + *offset as usize..base + *offset as usize + *size as usize;
        let place = packed.get_mut(place).ok_or(CUresult::INVALID_VALUE)?;
        // SAFETY: the caller's promise; the places were sized by the same layout.
        unsafe {
            place
                .as_mut_ptr()
                .copy_from_nonoverlapping(parameter.cast(), place.len())
        };
    }
    Ok(())
}

/// A buffer may end before the kernel's parameters do, if the kernel does not look at what is behind: NCCL's take a structure of 4 KiB, of which each launch
/// gives the part that is in use. The rest is zeros here.
///
/// # Safety
/// `extra` is a list of names and values that ends in `CU_LAUNCH_PARAM_END`.
unsafe fn pack_buffer(
    bytes: usize,
    extra: *mut *mut c_void,
    packed: &mut Vec<u8>,
) -> Result<(), CUresult> {
    let mut buffer: Option<*const u8> = None;
    let mut size: Option<usize> = None;
    for index in (0..MAX_EXTRA).step_by(2) {
        // SAFETY: the list has not ended yet, so a name is here.
        let name = unsafe { extra.add(index).read() }.addr();
        if name == END {
            break;
        }
        // SAFETY: a name is followed by its value.
        let value = unsafe { extra.add(index + 1).read() };
        match name {
            BUFFER_POINTER => buffer = Some(value.cast_const().cast()),
            // SAFETY: the value points to a size.
            BUFFER_SIZE => size = Some(unsafe { out(value.cast::<usize>())?.read() }),
            _ => return Err(CUresult::INVALID_VALUE),
        }
    }
    let (Some(buffer), Some(size)) = (buffer, size) else {
        return Err(CUresult::INVALID_VALUE);
    };
    if size > MAX_PARAMETER_BYTES || (buffer.is_null() && size.max(bytes) > 0) {
        return Err(CUresult::INVALID_VALUE);
    }
    let base = packed.len();
    if size > 0 {
        // SAFETY: the program's buffer of this size, copied before this returns.
        packed.extend_from_slice(unsafe { std::slice::from_raw_parts(buffer, size) });
    }
    packed.resize(base + size.max(bytes), 0);
    Ok(())
}
