"""NVML by the standard library alone: what the first device is, and that the questions of monitors are answered."""

from common import Results

results = Results()

import ctypes

nvml = ctypes.CDLL("libnvidia-ml.so.1")
# NVML's "not supported": some devices do not tell their temperature or power either.
NOT_SUPPORTED = 3


class Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


def call(name, *arguments, may_be_unsupported=False):
    status = getattr(nvml, name)(*arguments)
    if status == NOT_SUPPORTED and may_be_unsupported:
        print(f"{name}: not supported")
    elif status != 0:
        raise SystemExit(f"FAIL {name}: {status}")
    return status


def text(name, *arguments):
    buffer = ctypes.create_string_buffer(256)
    call(name, *arguments, buffer, ctypes.c_uint(256))
    print(f"{name}: {buffer.value.decode()}")
    # Compared as numbers, like everything.
    results.add(name, list(buffer.value))


results.begin("start")
call("nvmlInit_v2")
text("nvmlSystemGetDriverVersion")
count, device = ctypes.c_uint(), ctypes.c_void_p()
call("nvmlDeviceGetCount_v2", ctypes.byref(count))
call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(0), ctypes.byref(device))
results.begin("device")
text("nvmlDeviceGetName", device)
text("nvmlDeviceGetUUID", device)
results.begin("memory")
memory = Memory()
call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
results.add("total", memory.total)
if memory.used + memory.free > memory.total + (1 << 20):
    raise SystemExit(f"FAIL {memory.used} bytes used and {memory.free} free of {memory.total}")
results.begin("state")
utilization = Utilization()
call("nvmlDeviceGetUtilizationRates", device, ctypes.byref(utilization), may_be_unsupported=True)
for name, kind in [("nvmlDeviceGetTemperature", 0), ("nvmlDeviceGetClockInfo", 0)]:
    value = ctypes.c_uint()
    status = call(name, device, ctypes.c_uint(kind), ctypes.byref(value), may_be_unsupported=True)
    print(f"{name}: {value.value}")
    results.add(name, status)
value = ctypes.c_uint()
results.add("power", call("nvmlDeviceGetPowerUsage", device, ctypes.byref(value), may_be_unsupported=True))
call("nvmlShutdown")
results.save()
