#!/usr/bin/env python3
"""Compiles a CUDA file with NVRTC 12 for compute capability 7.0, which CUDA 13's compiler no longer knows: text and machine code.

    compile_for_7_0.py LIBNVRTC SOURCE OUT.ptx OUT.cubin
"""

import ctypes
import sys
from pathlib import Path


def check(nvrtc, result, program=None):
    if result == 0:
        return
    text = ctypes.create_string_buffer(1 << 16)
    if program:
        nvrtc.nvrtcGetProgramLog(program, text)
    sys.exit(f"nvrtc: error {result} {text.value.decode()}")


def compile_to(nvrtc, source: bytes, architecture: str, size_of: str, get: str) -> bytes:
    program = ctypes.c_void_p()
    check(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None))
    options = (ctypes.c_char_p * 2)(f"--gpu-architecture={architecture}".encode(), b"--std=c++17")
    check(nvrtc, nvrtc.nvrtcCompileProgram(program, len(options), options), program)
    size = ctypes.c_size_t()
    check(nvrtc, getattr(nvrtc, size_of)(program, ctypes.byref(size)))
    image = ctypes.create_string_buffer(size.value)
    check(nvrtc, getattr(nvrtc, get)(program, image))
    return image.raw


def main():
    library, source, text, code = sys.argv[1:]
    nvrtc = ctypes.CDLL(library)
    source = Path(source).read_bytes()
    ptx = compile_to(nvrtc, source, "compute_70", "nvrtcGetPTXSize", "nvrtcGetPTX")
    Path(text).write_bytes(ptx.rstrip(b"\0"))
    Path(code).write_bytes(compile_to(nvrtc, source, "sm_70", "nvrtcGetCUBINSize", "nvrtcGetCUBIN"))


main()
