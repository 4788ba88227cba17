"""The few driver functions that it takes to run a kernel of a PTX text, by ctypes, with numpy arrays as memory."""

import ctypes

import numpy

_driver = ctypes.CDLL("libcuda.so.1")


def _call(name, *arguments):
    result = getattr(_driver, name)(*arguments)
    if result != 0:
        raise SystemExit(f"{name} answers {result}")


_call("cuInit", 0)
_context = ctypes.c_void_p()
_call("cuDevicePrimaryCtxRetain", ctypes.byref(_context), 0)
_call("cuCtxSetCurrent", _context)


class Kernel:
    """One kernel of a text."""

    def __init__(self, text, name):
        self.module, self.function = ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuModuleLoadData", ctypes.byref(self.module), text.encode() + b"\0")
        _call("cuModuleGetFunction", ctypes.byref(self.function), self.module, name.encode())

    def __call__(self, grid, block, arguments, shared=0):
        """Launches; arrays are copied to the device before and back after, numbers are passed as their numpy types."""
        grid, block = ((*sizes, 1, 1)[:3] for sizes in (grid, block))
        places, values = [], []
        for argument in arguments:
            if isinstance(argument, numpy.ndarray):
                address = ctypes.c_uint64()
                _call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(argument.nbytes))
                _call("cuMemcpyHtoD_v2", address, ctypes.c_void_p(argument.ctypes.data), ctypes.c_size_t(argument.nbytes))
                places.append((address, argument))
                values.append(address)
            else:
                values.append(ctypes.create_string_buffer(argument.tobytes(), argument.nbytes))
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        if shared > 48 << 10:
            _call("cuFuncSetAttribute", self.function, 8, shared)
        _call("cuLaunchKernel", self.function, *grid, *block, shared, None, pointers, None)
        _call("cuCtxSynchronize")
        for address, array in places:
            _call("cuMemcpyDtoH_v2", ctypes.c_void_p(array.ctypes.data), address, ctypes.c_size_t(array.nbytes))
            _call("cuMemFree_v2", address)
