"""The device on both sides: the driver loaded into the program, and a gpu-server from this bundle. Only this file starts processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Dict, List, Optional

from .judge import Run, refusals

BUNDLE = Path(__file__).resolve().parent.parent
GPURUN = BUNDLE / "bin" / "gpurun"
SERVER = BUNDLE / "bin" / "gpu-server"
SOFT = BUNDLE / "lib" / "gpurun" / "soft"

# Loading a driver and looking at many devices takes long.
READY_LIMIT = 90.0
STOP_LIMIT = 5.0


class Failure(Exception):
    """Nothing can be checked."""


def loaded_driver() -> Optional[str]:
    """The path of the `libcuda.so.1` that a program gets here, found in a process of its own."""
    code = (
        "import ctypes; ctypes.CDLL('libcuda.so.1');"
        "print([line.split()[-1] for line in open('/proc/self/maps') if 'libcuda.so' in line][0])"
    )
    found = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return found.stdout.strip() or None


class Device:
    """A device natively, and a server on it; a context manager, which ends the server."""

    def __init__(self, kind: str, transports: List[str], logs: Path):
        self.kind, self.transports, self.logs = kind, transports, logs
        self.scratch = Path(tempfile.mkdtemp(prefix="gpu-check-"))
        self.server: Optional[subprocess.Popen] = None
        self.addresses: Dict[str, str] = {}
        self.driver: Optional[str] = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def base_environment(self) -> Dict[str, str]:
        """Nobody's configuration of gpurun, and what was not in front of programs before."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GPURUN_") and name != "LD_PRELOAD"}
        environment["XDG_CONFIG_HOME"] = str(self.scratch)
        environment["PYTHONUNBUFFERED"] = "1"
        return environment

    def native_environment(self) -> Dict[str, str]:
        environment = self.base_environment()
        if self.kind == "soft":
            before = environment.get("LD_LIBRARY_PATH")
            environment["LD_LIBRARY_PATH"] = f"{SOFT}:{before}" if before else str(SOFT)
            environment["GPURUN_SOFT_SEGMENT"] = self.segment("native")
        return environment

    def segment(self, side: str) -> str:
        return f"{self.scratch.name}-{side}"

    def start(self):
        command = [str(SERVER), "serve", "--exit-with-parent", "--device", self.kind]
        # A server of this run alone, whatever is configured on this machine.
        configuration = self.scratch / "server.toml"
        configuration.write_text("")
        command += ["--config", str(configuration)]
        for transport in self.transports:
            command += ["--listen", "tcp://127.0.0.1:0" if transport == "tcp" else f"unix:{self.scratch / 'server.sock'}"]
        if self.kind == "gpu":
            self.driver = loaded_driver()
            if not self.driver:
                raise Failure("there is no libcuda.so.1 here: no NVIDIA driver, or not on the loader's path")
            command += ["--driver", os.path.realpath(self.driver)]
        environment = self.base_environment()
        environment.update(GPURUN_LOG="info", NO_COLOR="1", GPURUN_SOFT_SEGMENT=self.segment("server"))
        log = open(self.logs / "server.log", "wb")
        self.server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        log.close()
        self.wait_until_ready()

    def wait_until_ready(self):
        is_ready = threading.Event()

        def listen():
            for line in self.server.stdout:
                address = line.decode(errors="replace").strip().replace("listening on ", "")
                self.addresses[address.split(":", 1)[0]] = address
                if len(self.addresses) == len(self.transports):
                    is_ready.set()
            is_ready.set()  # its end

        threading.Thread(target=listen, daemon=True).start()
        if not is_ready.wait(READY_LIMIT) or len(self.addresses) < len(self.transports):
            raise Failure("gpu-server is not ready: " + self.end_of("server.log"))

    def end_of(self, name: str) -> str:
        lines = (self.logs / name).read_text(errors="replace").splitlines()
        return " / ".join(lines[-3:])

    def stop(self):
        if self.server:
            self.server.terminate()
            try:
                self.server.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
        for side in ("native", "server"):
            path = Path("/dev/shm") / self.segment(side)
            if path.exists():
                path.unlink()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def is_alive(self) -> bool:
        return self.server is not None and self.server.poll() is None

    def describe(self) -> str:
        """What the server has, in a line a device; by `gpurun list`, so this is also its check."""
        command = [str(GPURUN), "list", "--json", "--server", self.addresses[self.transports[0]]]
        found = subprocess.run(
            command, env=self.base_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=READY_LIMIT
        )
        if found.returncode != 0:
            raise Failure(f"gpurun list: {found.stderr.strip()}")
        return "; ".join(
            f"{one['name']}, {one['total_memory_bytes'] >> 20} MiB, compute capability {one['compute_capability']}, CUDA {one['cuda_version']}"
            for one in json.loads(found.stdout)
        )

    def run(self, name: str, command: List[str], side: str, limit: float, extra: Dict[str, str], number: int) -> Run:
        """Runs a client natively or over a transport; its whole process group ends with the limit."""
        log = self.logs / f"{name}.{number}-{side}"
        saved = self.scratch / f"{name}.json"
        cache = self.scratch / f"cache-{name}-{'native' if side == 'native' else 'remote'}"
        values = {"save": str(saved), "cache": str(cache)}
        command = [word.format(**values) for word in command]
        environment = self.native_environment() if side == "native" else self.base_environment()
        environment.update({key: value.format(**values) for key, value in extra.items()})
        if side != "native":
            command = [str(GPURUN), "--server", self.addresses[side], *command]
            environment.update(GPURUN_STATS="1", GPURUN_LOG="info", GPURUN_LOG_FILE=f"{log}.library.log")
        if saved.exists():
            saved.unlink()
        run = execute(command, environment, side, limit)
        Path(f"{log}.out").write_text(run.stdout)
        Path(f"{log}.err").write_text(run.stderr)
        library = Path(f"{log}.library.log")
        if library.exists():
            run.refused = refusals(library.read_text(errors="replace"))
        if saved.exists():
            run.saved = json.loads(saved.read_text())
        return run


def execute(command: List[str], environment: Dict[str, str], side: str, limit: float) -> Run:
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Run(side, 127, 0.0, "", str(error))
    try:
        out, err = process.communicate(timeout=limit)
        status: Optional[int] = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        status = None
    seconds = time.monotonic() - started
    return Run(side, status, seconds, out.decode(errors="replace"), err.decode(errors="replace"))
