"""What is run: the driver checks, the C++ programs, and what there is for Python."""

import json
import sys
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional

from . import judge
from .device import BUNDLE

DRIVER_CHECK = str(BUNDLE / "bin" / "driver_check")


@dataclass
class Client:
    """Something to run on both sides. In `command` and `environment`, {save} and {cache} stand for paths."""

    name: str
    command: List[str]
    judge: Callable[[list], judge.Verdict]
    limit: float  # seconds for one run
    # "N" is a native run, "R" a remote one; remote ones take the transports in turn.
    order: str = "NRNR"
    environment: Dict[str, str] = field(default_factory=dict)
    # Arguments of runs that may answer NOT_SUPPORTED: remote ones, and all on the software GPU.
    lenient: List[str] = field(default_factory=list)
    # A run that ends badly is the last one.
    stops_at_failure: bool = True
    # Whether its two sides do the same, so that their times can be compared.
    is_timed: bool = True
    # Why it cannot run on the software GPU.
    not_on_soft: Optional[str] = None


# A driver may crash here, which is an answer too.
MAY_CRASH = ("table-calls", "null-arguments", "freed-stream", "freed-event", "freed-module", "freed-context")
GROUPS = (
    "start context windows mapping copies completion held capture modules tables table-calls wrong-calls null-arguments "
    "freed-stream freed-event freed-module freed-context fault-address fault-misaligned fault-trap"
).split()

PROGRAMS = {
    "vector_add": [[]],
    "tiled_matmul": [[]],
    "shuffle_reduction": [[]],
    "atomic_histogram": [[]],
    "stream_overlap": [[]],
    "memory": [[]],
    "multi_thread": [[]],
    "driver_api": [[]],
    "conditional": [[]],
    "export_tables": [[]],
    "error_paths": [[], ["trap"], ["assert"]],
    "device_query": [[]],
    "device_printf": [[]],
    "long_run": [["1", "64"]],
}

MACHINE_CODE_ONLY = "the software GPU executes PTX, and this has machine code only"
# Name, limit of a run, environment, why not on the software GPU.
PYTHON = [
    ("nvml_device", 30, {}, "the software GPU has no NVML of its own to compare with"),
    ("torch_cnn", 60, {}, MACHINE_CODE_ONLY),
    ("torch_operations", 60, {}, MACHINE_CODE_ONLY),
    ("torch_distributed_alone", 60, {}, MACHINE_CODE_ONLY),
    ("cupy_arrays", 45, {"CUPY_CACHE_DIR": "{cache}"}, MACHINE_CODE_ONLY),
    ("numba_kernels", 45, {"NUMBA_CACHE_DIR": "{cache}"}, MACHINE_CODE_ONLY),
    ("triton_kernels", 60, {"TRITON_CACHE_DIR": "{cache}"}, MACHINE_CODE_ONLY),
    (
        "jax_functions",
        60,
        # Nothing chosen by its speed: two runs could choose otherwise.
        {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_PLATFORMS": "cuda", "XLA_FLAGS": "--xla_gpu_autotune_level=0"},
        MACHINE_CODE_ONLY,
    ),
    ("transformers_tiny", 60, {"HF_HUB_OFFLINE": "1"}, MACHINE_CODE_ONLY),
    ("tinygrad_steps", 60, {"DEV": "CUDA", "JIT": "2", "PARALLEL": "0", "XDG_CACHE_HOME": "{cache}"}, None),
]


# What only the worker relies on: thousands of values that a thread polls, each of which mapped memory brings in a millisecond at a distance.
OF_THE_DRIVER = {"completion"}


def driver_checks() -> List[Client]:
    images = ["--images", str(BUNDLE / "images")]
    return [
        Client(
            f"driver.{group}",
            [DRIVER_CHECK, group, *images],
            judge.assumptions(may_crash=group in MAY_CRASH),
            limit=60,
            order="N" if group in OF_THE_DRIVER else "NR",
            lenient=["--lenient"],
            stops_at_failure=False,
            is_timed=False,
        )
        for group in GROUPS
    ]


def error_table() -> Client:
    """What wrong calls answer: the table that the software GPU and the library pass, on a real driver."""
    return Client(
        "driver.error-table",
        [str(BUNDLE / "bin" / "wrong_calls")],
        judge.assumptions(),
        limit=60,
        order="NR",
        stops_at_failure=False,
        is_timed=False,
    )


def programs(variant: str, order: str) -> List[Client]:
    folder = BUNDLE / "programs" / variant
    if not folder.is_dir():
        return []
    check = [str(folder / "runtime_check")]
    found = [Client(f"{variant}.runtime_check", check, judge.assumptions(), limit=60, order="NR", is_timed=False)]
    for name, runs in PROGRAMS.items():
        for arguments in runs:
            title = ".".join([variant, name, *(word for word in arguments if not word.isdigit())])
            found.append(Client(title, [str(folder / name), *arguments], judgement_of(name), limit=60, order=order))
    return found


def judgement_of(name: str):
    if name == "device_query":
        return judge.description
    if name == "device_printf":
        return judge.printing((BUNDLE / "programs" / "device_printf.expected").read_text())
    return judge.program


def python_clients(python: str) -> List[Client]:
    return [
        Client(
            name,
            [python, str(BUNDLE / "clients" / f"{name}.py"), "--save", "{save}"],
            judge.results,
            limit,
            order="NRN",
            environment=dict(environment, PYTHONDONTWRITEBYTECODE="1"),
            not_on_soft=reason,
        )
        for name, limit, environment, reason in PYTHON
    ]


def all_clients(python: Optional[str]) -> List[Client]:
    # What tells most comes first: the time may run out.
    first = [*driver_checks(), error_table(), *programs("static13", "NRNR")]
    return first + python_clients(python or sys.executable) + programs("dynamic12", "NR")


def manifest() -> dict:
    return json.loads((BUNDLE / "manifest.json").read_text())
