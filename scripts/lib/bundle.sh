# shellcheck shell=bash
# Makes the folder of the GPU check: our binaries as installed, CUDA programs, Python clients, and what runs them. Source it after common.sh.
#   bundle_for_elsewhere   for glibc 2.17 and later, with machine code for every architecture from 7.0 to 9.0
#   bundle_of_this_build   what this machine's build made, for a dry run on the software GPU

BUNDLE=$TARGET/gpu-check
MOST_BYTES=$((64 << 20))
NEWEST_GLIBC=2.17
CHECKS=$REPO/tests/gpu-check
CUDA=$TOOLS/cuda/nvidia
NVCC=$CUDA/cu13/bin/nvcc
ZIG=$TOOLS/gpu-check/python/ziglang/zig
ZIG_TARGET=x86_64-linux-gnu.$NEWEST_GLIBC
MADE=$TARGET/gpu-check-objects
ARCHITECTURES="75 80 86 89 90"
# What a program may need of the system it runs on; libcudart is in the bundle.
ALLOWED_LIBRARIES=" libc.so.6 libm.so.6 libdl.so.2 librt.so.1 libpthread.so.0 ld-linux-x86-64.so.2 libcudart.so.12 libcudart.so.13 "

# Our binaries where an installation has them.
install_binaries() {
    local from=$1
    mkdir -p "$BUNDLE"/bin "$BUNDLE"/lib/gpurun/{guest,soft}
    cp "$from/gpurun" "$from/gpu-server" "$BUNDLE/bin/"
    cp "$from/libgpurun_cuda.so" "$BUNDLE/lib/gpurun/guest/libcuda.so.1"
    cp "$from/libgpurun_nvml.so" "$BUNDLE/lib/gpurun/guest/libnvidia-ml.so.1"
    cp "$from/libsoft_gpu.so" "$BUNDLE/lib/gpurun/soft/libcuda.so.1"
    ln -s libcuda.so.1 "$BUNDLE/lib/gpurun/guest/libcuda.so"
    strip "$BUNDLE"/bin/* "$BUNDLE"/lib/gpurun/*/*.so.1
}

install_scripts() {
    mkdir -p "$BUNDLE"/{gpu_check,clients}
    cp "$CHECKS/run" "$BUNDLE/"
    cp "$CHECKS"/gpu_check/*.py "$BUNDLE/gpu_check/"
    cp "$CHECKS"/clients/*.py "$BUNDLE/clients/"
}

write_manifest() {
    local binaries=$1 commit version
    commit=$(git -C "$REPO" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
    [ -z "$(git -C "$REPO" status --porcelain 2>/dev/null)" ] || commit+=" with changes"
    version=$("$BUNDLE/bin/gpurun" version | head -n 1)
    printf '{"version": "%s", "commit": "%s", "binaries": "%s", "compiler": "%s", "architectures": "%s"}\n' "$version" "$commit" "$binaries" \
        "$("$NVCC" --version | sed -n 's/.*release \([0-9.]*\),.*/nvcc \1/p')" "$2" >"$BUNDLE/manifest.json"
}

# Fails unless every binary runs on the oldest glibc and needs nothing that might not be there.
check_binaries() {
    local file library version
    while IFS= read -r -d '' file; do
        readelf -h "$file" >/dev/null 2>&1 || continue
        case $file in */lib/cuda/* | */images/*) continue ;; esac
        version=$(readelf --version-info --wide "$file" | grep -o 'GLIBC_[0-9.]*' | cut -d_ -f2 | sort -uV | tail -n 1)
        [ "$(printf '%s\n' "$version" "$NEWEST_GLIBC" | sort -V | tail -n 1)" = "$NEWEST_GLIBC" ] || die "$file needs glibc $version"
        for library in $(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
            case $ALLOWED_LIBRARIES in *" $library "*) ;; *) die "$file needs $library" ;; esac
        done
    done < <(find "$BUNDLE" -type f -print0)
}

check_size() {
    local bytes
    bytes=$(du -sb "$BUNDLE" | cut -f1)
    [ "$bytes" -le "$MOST_BYTES" ] || die "the bundle has $bytes bytes, more than $MOST_BYTES"
    say "${BUNDLE#"$REPO"/}: $((bytes >> 20)) MiB"
}

# --- for elsewhere -----------------------------------------------------------------------------------------------

use_zig() {
    export ZIG_GLOBAL_CACHE_DIR=$TOOLS/gpu-check/zig-cache ZIG_LOCAL_CACHE_DIR=$TOOLS/gpu-check/zig-cache
    PATH=$TOOLS/gpu-check/bin:${ZIG%/*}:$PATH
}

# The device code that a program gets: machine code of each architecture, and text for later ones.
device_code() {
    local architecture
    for architecture in $ARCHITECTURES; do
        printf -- '-gencode=arch=compute_%s,code=sm_%s ' "$architecture" "$architecture"
    done
    printf -- '-gencode=arch=compute_75,code=compute_75'
}

is_current() { [ "$1" -nt "$2" ] && [ "$1" -nt "$REPO/tests/programs/check.h" ] && [ "$1" -nt "$TOOLS/cuda.stamp" ] && [ "$1" -nt "$REPO/scripts/lib/bundle.sh" ]; }

# `compile_object VARIANT SOURCE RUNTIME`: with the system's compiler, its static C++ library, and the headers of that CUDA runtime. Linked by
# zig, the object needs only the old C library.
compile_object() {
    local source=$2 object code
    object=$MADE/$1.$(basename "$source" .cu).o
    is_current "$object" "$source" && return
    read -ra code <<<"$(device_code)"
    "$NVCC" -c -std=c++17 -O2 -Wno-deprecated-gpu-targets "${code[@]}" -I"$3/include" -o "$object" "$source"
}

# `link_old OUT OBJECT|LIBRARY…`
link_old() {
    local out=$1
    shift
    "$ZIG" cc -target "$ZIG_TARGET" -s -o "$out" "$@" "$(g++ -print-file-name=libstdc++.a)" "$CHECKS/newer_glibc.c" \
        -lunwind -ldl -lpthread -lrt -lm -Wl,--allow-shlib-undefined
}

# What stays behind: it is there for the instructions that the software GPU executes, and would be a seventh of the bundle.
TOO_LARGE=algorithms

programs_for_elsewhere() {
    local source name runtime12=$CUDA/cuda_runtime
    mkdir -p "$MADE" "$BUNDLE"/programs/{static13,dynamic12} "$BUNDLE/lib/cuda"
    cp "$runtime12/lib/libcudart.so.12" "$BUNDLE/lib/cuda/"
    for source in "$REPO"/tests/programs/*.cu "$CHECKS/runtime_check.cu"; do
        name=$(basename "$source" .cu)
        [ "$name" != "$TOO_LARGE" ] || continue
        compile_object static13 "$source" "$CUDA/cu13"
        link_old "$BUNDLE/programs/static13/$name" "$MADE/static13.$name.o" "$CUDA/cu13/lib/libcudart_static.a"
        compile_object dynamic12 "$source" "$runtime12"
        link_old "$BUNDLE/programs/dynamic12/$name" "$MADE/dynamic12.$name.o" "$runtime12/lib/libcudart.so.12" \
            -Wl,-rpath,"\$ORIGIN/../../lib/cuda"
    done
}

# The driver checks need no CUDA of their own: they find the driver by name.
driver_check_for_elsewhere() {
    local source objects=()
    for source in "$CHECKS"/driver/*.cc; do
        objects+=("$MADE/driver_$(basename "$source" .cc).o")
        g++ -c -std=c++17 -O2 -Wall -Wextra -I"$CUDA/cu13/include" -o "${objects[-1]}" "$source"
    done
    link_old "$BUNDLE/bin/driver_check" "${objects[@]}"
    g++ -c -std=c++17 -O2 -Wall -I"$CUDA/cu13/include" -o "$MADE/wrong_calls.o" "$REPO/tests/programs/wrong_calls.cpp"
    link_old "$BUNDLE/bin/wrong_calls" "$MADE/wrong_calls.o"
}

images_for_elsewhere() {
    local source=$CHECKS/driver/kernels.cu images=$BUNDLE/images architecture code
    mkdir -p "$images"
    read -ra code <<<"$(device_code)"
    "$NVCC" -ptx -arch=compute_75 -o "$images/kernels.ptx" "$source"
    "$NVCC" -fatbin "${code[@]}" -o "$images/kernels.fatbin" "$source"
    for architecture in $ARCHITECTURES; do
        "$NVCC" -cubin -arch="sm_$architecture" -o "$images/kernels.sm_$architecture.cubin" "$source"
    done
    python3 "$CHECKS/compile_for_7_0.py" "$TOOLS/gpu-check/python/nvidia/cuda_nvrtc/lib/libnvrtc.so.12" "$source" \
        "$images/kernels.compute_70.ptx" "$images/kernels.sm_70.cubin"
}

bundle_for_elsewhere() {
    need_cargo
    "$REPO/scripts/toolchain" python cuda gpu-check
    use_zig
    say "building for glibc $NEWEST_GLIBC"
    (cd "$REPO" && cargo zigbuild --release --quiet --target "x86_64-unknown-linux-gnu.$NEWEST_GLIBC" \
        -p gpurun -p gpu-server -p client-shim -p client-shim-nvml -p soft-gpu)
    rm -rf "$BUNDLE"
    install_binaries "$TARGET/x86_64-unknown-linux-gnu/release"
    install_scripts
    say "compiling programs for ${ARCHITECTURES// /, }"
    programs_for_elsewhere
    cp "$REPO/tests/programs/device_printf.expected" "$BUNDLE/programs/"
    driver_check_for_elsewhere
    images_for_elsewhere
    write_manifest "for glibc $NEWEST_GLIBC" "70 (driver checks) $ARCHITECTURES, text for 70 and 75"
    check_binaries
    check_size
}

# --- of this build -----------------------------------------------------------------------------------------------

# Text only, and one runtime: what the software GPU executes. scripts/build and scripts/build-programs have run.
bundle_of_this_build() {
    local images=$BUNDLE/images
    rm -rf "$BUNDLE"
    install_binaries "$RELEASE"
    install_scripts
    mkdir -p "$BUNDLE/programs" "$images" "$MADE"
    cp -r "$TARGET/programs/static13" "$BUNDLE/programs/"
    rm -f "$BUNDLE/programs/static13/$TOO_LARGE"
    cp "$REPO/tests/programs/device_printf.expected" "$BUNDLE/programs/"
    "$NVCC" -std=c++17 -gencode=arch=compute_75,code=compute_75 -L"$CUDA/cu13/lib" -o "$BUNDLE/programs/static13/runtime_check" \
        "$CHECKS/runtime_check.cu"
    g++ -std=c++17 -O1 -Wall -Wextra -Werror -I"$CUDA/cu13/include" -o "$BUNDLE/bin/driver_check" "$CHECKS"/driver/*.cc -ldl -lpthread
    cp "$TARGET/programs/driver/wrong_calls" "$BUNDLE/bin/"
    "$NVCC" -ptx -arch=compute_75 -o "$images/kernels.ptx" "$CHECKS/driver/kernels.cu"
    "$NVCC" -fatbin -gencode=arch=compute_75,code=compute_75 -o "$images/kernels.fatbin" "$CHECKS/driver/kernels.cu"
    write_manifest "this machine's build" "text for 75"
    check_size
}
