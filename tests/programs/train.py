#!/usr/bin/env python3
"""A training that needs nothing but a driver: fits y = w x + b on the device by gradient descent.

    train.py [--seconds S] [--memory MIB]

Until it has converged, and for S seconds at least; MIB are taken on the device meanwhile. The kernels are PTX, so that the
software GPU executes them as well. scripts/docs-check runs it wherever a document says `python3 train.py`.
"""

import argparse
import ctypes
import sys
import time

POINTS, STEPS, THREADS, RATE = 4096, 300, 256, 0.1
W, B = 3.0, -1.0

PTX = b"""
.version 7.0
.target sm_70
.address_size 64

// state: w, b, and the sums over all points: of the gradient by w, by b, of the squares
.visible .entry gradient(.param .u64 xs, .param .u64 ys, .param .u64 state, .param .u32 points)
{
    .reg .pred %p;
    .reg .b32 %r<5>;
    .reg .b64 %d<5>;
    .reg .f32 %f<8>;
    mov.u32 %r0, %ctaid.x;
    mov.u32 %r1, %ntid.x;
    mov.u32 %r2, %tid.x;
    mad.lo.u32 %r3, %r0, %r1, %r2;
    ld.param.u32 %r4, [points];
    setp.ge.u32 %p, %r3, %r4;
    @%p ret;
    ld.param.u64 %d0, [xs];
    ld.param.u64 %d1, [ys];
    ld.param.u64 %d2, [state];
    mul.wide.u32 %d3, %r3, 4;
    add.u64 %d0, %d0, %d3;
    add.u64 %d1, %d1, %d3;
    ld.global.f32 %f0, [%d0];
    ld.global.f32 %f1, [%d1];
    ld.global.f32 %f2, [%d2];
    ld.global.f32 %f3, [%d2+4];
    fma.rn.f32 %f4, %f2, %f0, %f3;
    sub.f32 %f4, %f4, %f1;
    mul.f32 %f5, %f4, %f0;
    mul.f32 %f6, %f4, %f4;
    red.global.add.f32 [%d2+8], %f5;
    red.global.add.f32 [%d2+12], %f4;
    red.global.add.f32 [%d2+16], %f6;
    ret;
}

.visible .entry step(.param .u64 state, .param .f32 rate)
{
    .reg .b64 %d0;
    .reg .f32 %f<8>;
    ld.param.u64 %d0, [state];
    ld.param.f32 %f0, [rate];
    neg.f32 %f0, %f0;
    ld.global.f32 %f1, [%d0];
    ld.global.f32 %f2, [%d0+4];
    ld.global.f32 %f3, [%d0+8];
    ld.global.f32 %f4, [%d0+12];
    ld.global.f32 %f5, [%d0+16];
    fma.rn.f32 %f1, %f0, %f3, %f1;
    fma.rn.f32 %f2, %f0, %f4, %f2;
    st.global.f32 [%d0], %f1;
    st.global.f32 [%d0+4], %f2;
    mov.f32 %f6, 0f00000000;
    st.global.f32 [%d0+8], %f6;
    st.global.f32 [%d0+12], %f6;
    st.global.f32 [%d0+16], %f6;
    st.global.f32 [%d0+20], %f5;
    ret;
}
"""


class Device:
    """The first device, through the driver that the loader finds."""

    def __init__(self):
        self.driver = ctypes.CDLL("libcuda.so.1")
        device, context, module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        self.call("cuModuleLoadData", ctypes.byref(module), PTX)
        self.module = module
        name = ctypes.create_string_buffer(100)
        self.call("cuDeviceGetName", name, 100, device)
        self.name = name.value.decode()

    def call(self, name, *arguments):
        result = getattr(self.driver, name)(*arguments)
        if result != 0:
            text = ctypes.c_char_p()
            self.driver.cuGetErrorName(result, ctypes.byref(text))
            sys.exit(f"train.py: {name}: {(text.value or b'?').decode()} ({result})")

    def memory(self):
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate(self, size):
        pointer = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer

    def upload(self, values):
        array = (ctypes.c_float * len(values))(*values)
        pointer = self.allocate(ctypes.sizeof(array))
        self.call("cuMemcpyHtoD_v2", pointer, array, ctypes.c_size_t(ctypes.sizeof(array)))
        return pointer

    def download(self, pointer, count):
        array = (ctypes.c_float * count)()
        self.call("cuMemcpyDtoH_v2", array, pointer, ctypes.c_size_t(ctypes.sizeof(array)))
        return list(array)

    def kernel(self, name):
        function = ctypes.c_void_p()
        self.call("cuModuleGetFunction", ctypes.byref(function), self.module, name.encode())
        return function

    def launch(self, function, blocks, threads, *parameters):
        pointers = (ctypes.c_void_p * len(parameters))(*[ctypes.addressof(one) for one in parameters])
        self.call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, None, pointers, None)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--memory", type=int, default=0)
    options = parser.parse_args()
    begin = time.monotonic()
    device = Device()
    if options.memory:
        device.allocate(options.memory << 20)
    xs = [2 * i / (POINTS - 1) - 1 for i in range(POINTS)]
    inputs, outputs = device.upload(xs), device.upload([W * x + B for x in xs])
    state = device.upload([0.0] * 6)
    gradient, step = device.kernel("gradient"), device.kernel("step")
    points, rate = ctypes.c_uint32(POINTS), ctypes.c_float(RATE / POINTS)
    steps = 0
    while steps < STEPS or time.monotonic() - begin < options.seconds:
        device.launch(gradient, (POINTS + THREADS - 1) // THREADS, THREADS, inputs, outputs, state, points)
        device.launch(step, 1, 1, state, rate)
        steps += 1
        if steps % 50 == 0:
            w, b, *_, squares = device.download(state, 6)
            if steps <= STEPS:
                print(f"step {steps:4}  loss {squares / POINTS:.6f}", flush=True)
    _, total = device.memory()
    is_right = abs(w - W) < 1e-3 and abs(b - B) < 1e-3
    print(f"{'trained' if is_right else 'NOT TRAINED'}: y = {w:.3f} x + {b:.3f} on {device.name}, {total >> 20} MiB")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
