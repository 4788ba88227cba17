//! The specification against cudarc's bindings: signatures by their source, layouts by the compiler.

use std::collections::HashMap;
use std::path::PathBuf;

use cudarc::driver::sys as cudarc_sys;
use driver_api::abi;
use driver_api_generator::model::Specification;

/// cudarc writes the functions of every version with `cfg`s; a name may have more than one signature.
fn cudarc_signatures() -> HashMap<String, Vec<Vec<String>>> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        // Of one platform: a build has fetched no others.
        .other_options(
            ["--offline", "--filter-platform", "x86_64-unknown-linux-gnu"]
                .map(str::to_owned)
                .to_vec(),
        )
        .exec()
        .expect("cargo metadata");
    let package = metadata
        .packages
        .iter()
        .find(|package| *package.name == "cudarc")
        .expect("a dependency");
    let file = PathBuf::from(&package.manifest_path).with_file_name("src/driver/sys/mod.rs");
    let text = std::fs::read_to_string(&file).expect("cudarc's source");
    let mut signatures: HashMap<String, Vec<Vec<String>>> = HashMap::new();
    for item in syn::parse_file(&text).expect("Rust").items {
        let syn::Item::Fn(function) = item else {
            continue;
        };
        let types = function.sig.inputs.iter().filter_map(|input| match input {
            syn::FnArg::Typed(typed) => Some(shape(&typed.ty)),
            syn::FnArg::Receiver(_) => None,
        });
        signatures
            .entry(function.sig.ident.to_string())
            .or_default()
            .push(types.collect());
    }
    signatures
}

/// A type by what the C ABI sees: pointers are pointers to the same thing, integers have a width.
fn shape(ty: &syn::Type) -> String {
    match ty {
        syn::Type::Ptr(pointer) => format!("*{}", shape(&pointer.elem)),
        syn::Type::Path(path) => {
            let name = path
                .path
                .segments
                .last()
                .map(|segment| segment.ident.to_string());
            canonical(&name.unwrap_or_default())
        }
        _ => "?".to_owned(),
    }
}

fn canonical(name: &str) -> String {
    let name = match name {
        "c_int" | "CUdevice" | "CUdevice_v1" => "i32",
        "c_uint" | "cuuint32_t" | "GLuint" => "u32",
        "c_ulonglong" | "cuuint64_t" | "CUdeviceptr" | "c_ulong" | "u64" => "u64",
        "c_uchar" => "u8",
        "c_ushort" => "u16",
        "c_char" => "i8",
        other => other,
    };
    // The headers name the first version of a structure twice, with the suffix and without.
    name.trim_end_matches("_v1").to_owned()
}

fn specification() -> Specification {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("spec");
    driver_api_generator::read_specification(&directory).expect("it built")
}

#[test]
fn signatures_are_those_of_cudarc() {
    let theirs = cudarc_signatures();
    let mut compared = 0;
    let mut wrong = Vec::new();
    for row in specification().rows.iter().filter(|row| !row.private) {
        let Some(signatures) = theirs.get(&row.name) else {
            continue;
        };
        let ours: Vec<String> = row
            .parameters
            .iter()
            .map(|parameter| shape(&parameter.ty))
            .collect();
        compared += 1;
        if !signatures.contains(&ours) {
            wrong.push(format!(
                "{}: ours {ours:?}, cudarc's {signatures:?}",
                row.name
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        compared >= 480,
        "only {compared} functions were found in cudarc"
    );
}

macro_rules! same_layout {
    ($($ours:ident = $theirs:ident { $($our_field:ident = $their_field:ident),* $(,)? })*) => {$(
        assert_eq!(size_of::<abi::$ours>(), size_of::<cudarc_sys::$theirs>(), stringify!($ours));
        assert_eq!(align_of::<abi::$ours>(), align_of::<cudarc_sys::$theirs>(), stringify!($ours));
        $(assert_eq!(
            std::mem::offset_of!(abi::$ours, $our_field),
            std::mem::offset_of!(cudarc_sys::$theirs, $their_field),
            concat!(stringify!($ours), ".", stringify!($our_field))
        );)*
    )*};
}

#[test]
fn layouts_are_those_of_cudarc() {
    same_layout! {
        CUuuid = CUuuid_st { bytes = bytes }
        CUmemLocation = CUmemLocation_st { kind = type_ }
        CUmemAllocationProp = CUmemAllocationProp_st {
            kind = type_, requested_handle_types = requestedHandleTypes, location = location,
            win32_handle_meta_data = win32HandleMetaData, compression_type = allocFlags,
        }
        CUmemPoolProps = CUmemPoolProps_st {
            kind = allocType, handle_types = handleTypes, location = location, win32_security_attributes = win32SecurityAttributes,
            max_size = maxSize, usage = usage,
        }
        CUmemAccessDesc = CUmemAccessDesc_st { location = location, flags = flags }
        CUmulticastObjectProp = CUmulticastObjectProp_st {
            num_devices = numDevices, size = size, handle_types = handleTypes, flags = flags,
        }
        CUipcMemHandle = CUipcMemHandle_st { reserved = reserved }
        CUipcEventHandle = CUipcEventHandle_st { reserved = reserved }
        CUlaunchAttribute = CUlaunchAttribute_st { id = id, value = value }
        CUlaunchConfig = CUlaunchConfig_st {
            grid_dim_x = gridDimX, block_dim_z = blockDimZ, shared_mem_bytes = sharedMemBytes,
            stream = hStream, attrs = attrs, num_attrs = numAttrs,
        }
        CUDA_MEMCPY2D = CUDA_MEMCPY2D_st {
            src_x_in_bytes = srcXInBytes, src_memory_type = srcMemoryType, src_host = srcHost,
            src_device = srcDevice, src_array = srcArray, src_pitch = srcPitch,
            dst_x_in_bytes = dstXInBytes, dst_memory_type = dstMemoryType, dst_host = dstHost,
            dst_pitch = dstPitch, width_in_bytes = WidthInBytes, height = Height,
        }
        CUDA_MEMCPY3D = CUDA_MEMCPY3D_st {
            src_lod = srcLOD, src_memory_type = srcMemoryType, src_host = srcHost, reserved0 = reserved0,
            src_pitch = srcPitch, src_height = srcHeight, dst_x_in_bytes = dstXInBytes, dst_lod = dstLOD,
            dst_memory_type = dstMemoryType, reserved1 = reserved1, dst_pitch = dstPitch,
            width_in_bytes = WidthInBytes, depth = Depth,
        }
        CUDA_ARRAY_DESCRIPTOR = CUDA_ARRAY_DESCRIPTOR_st { width = Width, height = Height, format = Format, num_channels = NumChannels }
        CUDA_ARRAY3D_DESCRIPTOR = CUDA_ARRAY3D_DESCRIPTOR_st {
            width = Width, height = Height, depth = Depth, format = Format, num_channels = NumChannels, flags = Flags,
        }
        CUDA_RESOURCE_DESC = CUDA_RESOURCE_DESC_st { kind = resType, words = res, flags = flags }
        CUDA_TEXTURE_DESC = CUDA_TEXTURE_DESC_st {
            address_mode = addressMode, filter_mode = filterMode, flags = flags, max_anisotropy = maxAnisotropy,
            mipmap_filter_mode = mipmapFilterMode, mipmap_level_bias = mipmapLevelBias, border_color = borderColor,
            reserved = reserved,
        }
        CUDA_RESOURCE_VIEW_DESC = CUDA_RESOURCE_VIEW_DESC_st {
            format = format, width = width, depth = depth, first_mipmap_level = firstMipmapLevel, last_layer = lastLayer,
            reserved = reserved,
        }
        CUDA_MEMCPY3D_PEER = CUDA_MEMCPY3D_PEER_st {}
        CUmemcpyAttributes = CUmemcpyAttributes_st {
            src_access_order = srcAccessOrder, src_loc_hint = srcLocHint, dst_loc_hint = dstLocHint, flags = flags,
        }
        CUDA_MEMCPY3D_BATCH_OP = CUDA_MEMCPY3D_BATCH_OP_st {
            src = src, dst = dst, extent = extent, src_access_order = srcAccessOrder, flags = flags,
        }
        CUdevprop = CUdevprop_st { max_threads_per_block = maxThreadsPerBlock, clock_rate = clockRate, texture_align = textureAlign }
        CUstreamBatchMemOpParams = CUstreamBatchMemOpParams_union {}
    }
}
