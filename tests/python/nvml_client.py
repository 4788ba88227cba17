"""What a client of NVML may rely on, checked against nvidia-ml-py's own definitions and against CUDA in the same program.

    nvml_client.py identity COUNT    the devices are the ones that CUDA shows; memory in use is what this program takes
    nvml_client.py layouts           structures, versions, sizes and codes
    nvml_client.py every             what can be asked of a device: answered, not supported, or not there
    nvml_client.py fork              threads that ask while the process forks; children ask too, and may use CUDA
    nvml_client.py gone              says "ready", waits for a line, then the server is not there any more

Prints PASS or fails with a traceback.
"""

import ctypes
import inspect
import os
import signal
import sys
import threading
import time

import pynvml as nvml

HELD = 256 << 20
LIMIT = 30
CANARY = 0xA5
# CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED and _NATIVE_ATOMIC_SUPPORTED
ACCESS, ATOMICS = 2, 3


def cuda():
    return ctypes.CDLL("libcuda.so.1")


def check(code, expected=0):
    assert code == expected, f"code {code}, not {expected}"


def until(condition, what):
    """Usage is as of a moment ago, so it is asked again until it shows."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def identity(count):
    driver = cuda()
    check(driver.cuInit(0))
    nvml.nvmlInit()
    number = ctypes.c_int()
    check(driver.cuDeviceGetCount(ctypes.byref(number)))
    assert nvml.nvmlDeviceGetCount() == number.value == count
    version = ctypes.c_int()
    check(driver.cuDriverGetVersion(ctypes.byref(version)))
    assert nvml.nvmlSystemGetCudaDriverVersion() == nvml.nvmlSystemGetCudaDriverVersion_v2() == version.value
    assert nvml.nvmlSystemGetDriverVersion() and nvml.nvmlSystemGetNVMLVersion()
    for index in range(count):
        same_device(driver, index)
        for other in range(count):
            same_peers(driver, index, other)
    # Asked for twice, shut down twice, asked for again.
    nvml.nvmlInitWithFlags(nvml.NVML_INIT_FLAG_NO_GPUS)
    nvml.nvmlShutdown()
    assert nvml.nvmlDeviceGetCount() == count
    nvml.nvmlShutdown()
    raises(nvml.NVMLError_Uninitialized, nvml.nvmlDeviceGetCount)
    nvml.nvmlInit()
    last = nvml.nvmlDeviceGetHandleByIndex(count - 1)
    usage(driver, last, count - 1)
    nvml.nvmlShutdown()


def same_device(driver, index):
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    device = ctypes.c_int()
    check(driver.cuDeviceGet(ctypes.byref(device), index))
    name = ctypes.create_string_buffer(256)
    check(driver.cuDeviceGetName(name, 256, device))
    assert nvml.nvmlDeviceGetName(handle) == name.value.decode()
    uuid = (ctypes.c_ubyte * 16)()
    check(driver.cuDeviceGetUuid_v2(uuid, device))
    text = nvml.nvmlDeviceGetUUID(handle)
    assert text.replace("-", "") == "GPU" + bytes(uuid).hex(), text
    place = ctypes.create_string_buffer(64)
    check(driver.cuDeviceGetPCIBusId(place, 64, device))
    pci = nvml.nvmlDeviceGetPciInfo(handle)
    expected = f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"
    assert expected == place.value.decode().lower() == pci.busIdLegacy.lower()
    assert pci.busId.lower() == "0000" + expected
    for found in (
        nvml.nvmlDeviceGetHandleByPciBusId(place.value),
        nvml.nvmlDeviceGetHandleByPciBusId(pci.busId.encode()),
        nvml.nvmlDeviceGetHandleByUUID(text.encode()),
    ):
        assert address(found) == address(handle) and nvml.nvmlDeviceGetIndex(found) == index
    total = ctypes.c_size_t()
    check(driver.cuDeviceTotalMem_v2(ctypes.byref(total), device))
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    newer = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    assert memory.total == newer.total == total.value
    assert memory.used + memory.free == memory.total == newer.used + newer.free + newer.reserved
    major, minor = ctypes.c_int(), ctypes.c_int()
    check(driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device))
    check(driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device))
    assert nvml.nvmlDeviceGetCudaComputeCapability(handle) == (major.value, minor.value)


def same_peers(driver, index, other):
    """What CUDA says of a pair, and that a device reaches itself, of which CUDA says nothing. NCCL asks both."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in (index, other)]
    capabilities = {0: ACCESS, 1: ACCESS, 3: ATOMICS, 4: ACCESS}
    for capability, attribute in capabilities.items():
        can = ctypes.c_int(1)
        if index != other:
            check(driver.cuDeviceGetP2PAttribute(ctypes.byref(can), attribute, index, other))
        expected = nvml.NVML_P2P_STATUS_OK if can.value else nvml.NVML_P2P_STATUS_NOT_SUPPORTED
        assert nvml.nvmlDeviceGetP2PStatus(*handles, capability) == expected, (index, other, capability)
    places = [nvml.nvmlDeviceGetPciInfo(handle).busId for handle in handles]
    assert (places[1] in linked_with(handles[0])) == (index != other)


def linked_with(handle):
    """Where the links of a device lead: the software GPU's, to every other one."""
    links = [place for place in (end_of_link(handle, link) for link in range(nvml.NVML_NVLINK_MAX_LINKS)) if place]
    [count] = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_NVLINK_LINK_COUNT])
    told = count.value.uiVal if count.nvmlReturn == nvml.NVML_SUCCESS else 0
    assert told == len(links), (told, links)
    return links


def end_of_link(handle, link):
    try:
        state = nvml.nvmlDeviceGetNvLinkState(handle, link)
    except nvml.NVMLError_NotSupported:
        return None
    [field] = nvml.nvmlDeviceGetFieldValues(handle, [(nvml.NVML_FI_DEV_NVLINK_GET_STATE, link)])
    assert state == nvml.NVML_FEATURE_ENABLED == field.value.uiVal and field.nvmlReturn == nvml.NVML_SUCCESS
    assert nvml.nvmlDeviceGetNvLinkCapability(handle, link, nvml.NVML_NVLINK_CAP_P2P_SUPPORTED) == 1
    assert nvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link) == nvml.NVML_NVLINK_DEVICE_TYPE_GPU
    return nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId


def address(handle):
    return ctypes.cast(handle, ctypes.c_void_p).value


def usage(driver, handle, index):
    device, context = ctypes.c_int(index), ctypes.c_void_p()
    check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    check(driver.cuCtxSetCurrent(context))
    before = nvml.nvmlDeviceGetMemoryInfo(handle).used
    held = ctypes.c_uint64()
    check(driver.cuMemAlloc_v2(ctypes.byref(held), ctypes.c_size_t(HELD)))
    check(driver.cuMemsetD8_v2(held, 1, ctypes.c_size_t(HELD)))
    check(driver.cuCtxSynchronize())
    until(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used >= before + HELD, "what was taken is in use")

    def same_free():
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        check(driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
        return nvml.nvmlDeviceGetMemoryInfo(handle).free == free.value

    until(same_free, "CUDA and NVML agree on free memory")
    for ask in (
        nvml.nvmlDeviceGetComputeRunningProcesses_v2,
        nvml.nvmlDeviceGetComputeRunningProcesses_v3,
    ):
        [own] = [process for process in ask(handle) if process.pid == os.getpid()]
        assert own.usedGpuMemory >= HELD
    assert nvml.nvmlDeviceGetGraphicsRunningProcesses(handle) == []
    assert nvml.nvmlDeviceGetMPSComputeRunningProcesses(handle) == []
    check(driver.cuMemFree_v2(held))


def raises(error, function, *arguments):
    try:
        function(*arguments)
    except error:
        return
    raise AssertionError(f"{function.__name__} does not raise {error.__name__}")


def layouts():
    library = ctypes.CDLL("libnvidia-ml.so.1")
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    extents(library, handle)
    versions(library, handle)
    sizes(library, handle)
    absent(handle)
    raises(nvml.NVMLError_InvalidArgument, nvml.nvmlDeviceGetHandleByIndex, 99)
    raises(nvml.NVMLError_InvalidArgument, nvml.nvmlDeviceGetName, ctypes.cast(16, nvml.c_nvmlDevice_t))
    raises(nvml.NVMLError_NotFound, nvml.nvmlDeviceGetHandleByUUID, b"GPU-0")
    raises(nvml.NVMLError_NotFound, nvml.nvmlDeviceGetHandleByPciBusId, b"00FF:FF:1F.0")
    raises(nvml.NVMLError_InvalidArgument, nvml.nvmlDeviceGetHandleByPciBusId, b"somewhere")
    check(library.nvmlDeviceGetCount_v2(None), nvml.NVML_ERROR_INVALID_ARGUMENT)
    check(library.nvmlDeviceGetMemoryInfo(handle, None), nvml.NVML_ERROR_INVALID_ARGUMENT)
    assert nvml.nvmlErrorString(nvml.NVML_ERROR_NOT_SUPPORTED) == "Not Supported"
    assert nvml.nvmlDeviceIsMigDeviceHandle(handle).value == 0
    assert nvml.nvmlDeviceGetComputeMode(handle) == nvml.NVML_COMPUTEMODE_DEFAULT
    values = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, 3])
    assert [value.nvmlReturn for value in values] == [nvml.NVML_ERROR_NOT_SUPPORTED] * 2
    assert [value.fieldId for value in values] == [nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, 3]
    nvml.nvmlShutdown()


def extents(library, handle):
    """Each function fills exactly the structure that nvidia-ml-py defines for it."""
    for name, structure, version in (
        ("nvmlDeviceGetMemoryInfo", nvml.c_nvmlMemory_t, None),
        ("nvmlDeviceGetMemoryInfo_v2", nvml.c_nvmlMemory_v2_t, nvml.nvmlMemory_v2),
        ("nvmlDeviceGetUtilizationRates", nvml.c_nvmlUtilization_t, None),
        ("nvmlDeviceGetPciInfo_v3", nvml.nvmlPciInfo_t, None),
        ("nvmlDeviceGetPciInfo_v2", nvml.nvmlPciInfo_v2_t, None),
    ):
        size = ctypes.sizeof(structure)
        place = (ctypes.c_ubyte * (size + 64))(*[CANARY] * (size + 64))
        if version is not None:
            ctypes.cast(place, ctypes.POINTER(ctypes.c_uint))[0] = version
        check(getattr(library, name)(handle, place))
        assert bytes(place[size:]) == bytes([CANARY] * 64), f"{name} writes too much"
        if name != "nvmlDeviceGetPciInfo_v2":  # its last words are NVIDIA's own
            assert place[size - 1] != CANARY, f"{name} writes too little"
    # One element of each kind of list, by the functions' three releases.
    driver = cuda()
    check(driver.cuInit(0))
    context = ctypes.c_void_p()
    check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
    until(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle), "this process is told")
    for suffix, size in (
        ("", 16),
        ("_v2", ctypes.sizeof(nvml.c_nvmlProcessInfo_v2_t)),
        ("_v3", ctypes.sizeof(nvml.c_nvmlProcessInfo_v3_t)),
    ):
        count = ctypes.c_uint(9)
        place = (ctypes.c_ubyte * (size * 9))(*[CANARY] * (size * 9))
        check(getattr(library, "nvmlDeviceGetComputeRunningProcesses" + suffix)(handle, ctypes.byref(count), place))
        assert count.value == 1, "each test has a server of its own"
        assert int.from_bytes(bytes(place[0:4]), "little") == os.getpid()
        assert bytes(place[size:]) == bytes([CANARY] * (size * 8))
        assert place[size - 1] != CANARY


def versions(library, handle):
    mismatch, absent = nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH, nvml.NVML_ERROR_NOT_SUPPORTED
    for name, version, expected in (
        ("nvmlDeviceGetMemoryInfo_v2", nvml.nvmlMemory_v2 + 1, mismatch),
        ("nvmlDeviceGetMemoryInfo_v2", 0, mismatch),
        ("nvmlDeviceGetTemperatureV", nvml.nvmlTemperature_v1, absent),
        ("nvmlDeviceGetTemperatureV", nvml.nvmlTemperature_v1 + 1, mismatch),
        ("nvmlDeviceGetGpuFabricInfoV", nvml.nvmlGpuFabricInfo_v2, absent),
        ("nvmlDeviceGetGpuFabricInfoV", nvml.nvmlGpuFabricInfo_v3, absent),
        ("nvmlDeviceGetGpuFabricInfoV", 0x01000000, mismatch),
    ):
        place = (ctypes.c_uint * 32)(version)
        check(getattr(library, name)(handle, place), expected)
        assert list(place[1:]) == [0] * 31, f"{name} writes though it fails"


def sizes(library, handle):
    short = ctypes.create_string_buffer(4)
    for name in ("nvmlDeviceGetName", "nvmlDeviceGetUUID"):
        check(getattr(library, name)(handle, short, 4), nvml.NVML_ERROR_INSUFFICIENT_SIZE)
    check(library.nvmlSystemGetDriverVersion(short, 1), nvml.NVML_ERROR_INSUFFICIENT_SIZE)
    assert short.raw == bytes(4)
    count = ctypes.c_uint(0)
    ask = library.nvmlDeviceGetComputeRunningProcesses_v3
    check(ask(handle, ctypes.byref(count), None), nvml.NVML_ERROR_INSUFFICIENT_SIZE)
    assert count.value == 1


def absent(handle):
    """What the software GPU does not have, or the distance takes away, is not supported: not found would mean an old driver."""
    for function, *arguments in (
        [nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU],
        [nvml.nvmlDeviceGetPowerUsage],
        [nvml.nvmlDeviceGetPowerManagementLimit],
        [nvml.nvmlDeviceGetEnforcedPowerLimit],
        [nvml.nvmlDeviceGetTotalEnergyConsumption],
        [nvml.nvmlDeviceGetFanSpeed],
        [nvml.nvmlDeviceGetFanSpeed_v2, 0],
        [nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM],
        [nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_MEM],
        [nvml.nvmlDeviceGetPerformanceState],
        [nvml.nvmlDeviceGetPersistenceMode],
        [nvml.nvmlDeviceGetMigMode],
        [nvml.nvmlDeviceGetEccMode],
        [nvml.nvmlDeviceGetEncoderUtilization],
        [nvml.nvmlDeviceGetDecoderUtilization],
        [nvml.nvmlDeviceGetDisplayActive],
        [nvml.nvmlDeviceGetDisplayMode],
        [nvml.nvmlDeviceGetTotalEccErrors, 1, 0],
        [nvml.nvmlDeviceGetCurrPcieLinkGeneration],
        [nvml.nvmlDeviceGetMaxPcieLinkWidth],
        [nvml.nvmlDeviceGetNvLinkState, 0],
        [nvml.nvmlDeviceGetNvLinkRemotePciInfo, 0],
        [nvml.nvmlDeviceGetDriverModel_v2],
        [nvml.nvmlDeviceGetBAR1MemoryInfo],
        [nvml.nvmlDeviceGetMinorNumber],
        [nvml.nvmlDeviceGetSerial],
        [nvml.nvmlDeviceGetBoardId],
        [nvml.nvmlDeviceGetBrand],
        [nvml.nvmlDeviceGetArchitecture],
        [nvml.nvmlDeviceGetMaxMigDeviceCount],
        [nvml.nvmlDeviceGetProcessUtilization, 0],
    ):
        raises(nvml.NVMLError_NotSupported, function, handle, *arguments)


def every():
    """All that nvidia-ml-py can ask of a device with nothing else said, twice: the answers do not depend on what was asked before."""
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    asked = [name for name in dir(nvml) if asks_of_a_device(name)]
    assert len(asked) > 100, len(asked)
    kinds = [{name: kind_of_answer(getattr(nvml, name), handle) for name in asked} for _ in range(2)]
    assert kinds[0] == kinds[1], {name for name in asked if kinds[0][name] != kinds[1][name]}
    answered = {name for name in asked if kinds[0][name] is None}
    missing = ANSWERED - answered
    assert not missing, missing
    others = set(kinds[0].values()) - {None, nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound}
    assert not others, others


# On every device.
ANSWERED = {
    f"nvmlDeviceGet{name}"
    for name in ("ComputeRunningProcesses_v3", "CudaComputeCapability", "Index", "MemoryInfo", "Name", "PciInfo_v3", "UUID", "UtilizationRates")
}


def asks_of_a_device(name):
    function = getattr(nvml, name)
    if not name.startswith(("nvmlDeviceGet", "nvmlDeviceIs")) or not inspect.isfunction(function):
        return False
    needed = [parameter.name for parameter in inspect.signature(function).parameters.values() if parameter.default is parameter.empty]
    return needed in (["handle"], ["device"])


def kind_of_answer(function, handle):
    try:
        function(handle)
    except nvml.NVMLError as error:
        return type(error)
    return None


def fork():
    # PyTorch's way, before it knows whether it may initialise CUDA in children: dlopen, count, and no CUDA in the parent.
    library = ctypes.CDLL("libnvidia-ml.so.1")
    check(library.nvmlInit())
    number = ctypes.c_uint()
    check(library.nvmlDeviceGetCount_v2(ctypes.byref(number)))
    handle = ctypes.c_void_p()
    check(library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)))

    def ask():
        memory, rates = nvml.c_nvmlMemory_t(), nvml.c_nvmlUtilization_t()
        check(library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)))
        check(library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(rates)))
        assert memory.total > 0

    stop, failures = threading.Event(), []

    def keep_asking():
        try:
            while not stop.is_set():
                ask()
        except BaseException as failure:  # told to the main thread
            failures.append(failure)

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    for round in range(40):
        child = os.fork()
        if child == 0:
            # A child that hangs ends by this signal, which is a failure to its parent.
            signal.alarm(LIMIT)
            code = 1
            try:
                in_child(library, ask, with_cuda=round == 0, generations=3)
                code = 0
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        assert status == 0, f"child {round}: status {status}"
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    check(library.nvmlShutdown())
    check(library.nvmlShutdown(), nvml.NVML_ERROR_UNINITIALIZED)


def in_child(library, ask, with_cuda, generations):
    number = ctypes.c_uint()
    check(library.nvmlDeviceGetCount_v2(ctypes.byref(number)))
    assert number.value == 1
    assert not open_sockets(), "a connection of the parent's threads is inherited"
    ask()
    assert not open_sockets(), "a connection is still open"
    if with_cuda:
        check(cuda().cuInit(0))
    if generations > 0:
        child = os.fork()
        if child == 0:
            signal.alarm(LIMIT)
            code = 1
            try:
                in_child(library, ask, False, generations - 1)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0


def gone():
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    assert nvml.nvmlDeviceGetMemoryInfo(handle).total > 0
    assert not open_sockets(), "a connection is still open"
    print("ready", flush=True)
    sys.stdin.readline()
    # The last answer is good for a moment.
    until(lambda: lost(handle), "the server's absence shows")
    # Who it was is still known, and a hundred questions do not take a hundred attempts.
    assert nvml.nvmlDeviceGetName(handle)
    for _ in range(100):
        assert lost(handle)


def open_sockets():
    return [name for name in os.listdir("/proc/self/fd") if is_socket(name)]


def is_socket(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    except OSError:
        return False


def lost(handle):
    try:
        nvml.nvmlDeviceGetMemoryInfo(handle)
        return False
    except nvml.NVMLError_GpuIsLost:
        return True


def main():
    what = sys.argv[1]
    {"identity": lambda: identity(int(sys.argv[2])), "layouts": layouts, "every": every, "fork": fork, "gone": gone}[what]()
    print(f"PASS {what}")


main()
