"""`run`: every client natively and remotely on one card, a line for each, a summary at the end; exit status 1 on any FAIL."""

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from datetime import datetime, timezone
from itertools import cycle
from pathlib import Path
from typing import List

from . import clients, judge, report
from .device import Device, Failure
from .judge import FAIL, SKIP, Verdict
from .report import Outcome


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run", description=__doc__)
    parser.add_argument("--device", choices=["gpu", "soft"], default="gpu", help="the real GPU, or the software GPU for a dry run")
    parser.add_argument("--only", metavar="NAME,...", help="clients whose names begin so, such as driver.,torch")
    parser.add_argument("--without", metavar="NAME,...", default="", help="clients to leave out")
    parser.add_argument("--out", metavar="FOLDER", help="where results go [default: $OUT, else ./results]")
    parser.add_argument("--python", metavar="PROGRAM", help="the Python that has the frameworks [default: this one]")
    parser.add_argument("--budget", type=float, default=540, metavar="SECONDS", help="what is not begun by then fails [default: 540]")
    parser.add_argument("--transports", default="unix,tcp", metavar="NAMES", help="[default: unix,tcp]")
    parser.add_argument("--list", action="store_true", help="name the clients")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> List[clients.Client]:
    every = clients.all_clients(options.python)
    only = tuple((options.only or "").split(",")) if options.only else ("",)
    without = tuple(word for word in options.without.split(",") if word)
    found = [client for client in every if client.name.startswith(only) and not (without and client.name.startswith(without))]
    if not found:
        raise Failure(f"no client's name begins with {options.only}; --list names them")
    return found


def run_client(client: clients.Client, device: Device, deadline: float) -> Outcome:
    if device.kind == "soft" and client.not_on_soft:
        return Outcome(client.name, Verdict(SKIP, [client.not_on_soft]))
    runs = []
    transports = cycle(device.transports)
    for number, letter in enumerate(client.order):
        left = deadline - time.monotonic()
        if left <= 0:
            return Outcome(client.name, Verdict(FAIL, ["the time is over (--budget)"]), runs)
        side = "native" if letter == "N" else next(transports)
        lenient = client.lenient if letter == "R" or device.kind == "soft" else []
        run = device.run(client.name, client.command + lenient, side, min(client.limit, left), client.environment, number)
        runs.append(run)
        if not device.is_alive():
            return Outcome(client.name, Verdict(FAIL, ["gpu-server has ended: " + device.end_of("server.log")]), runs)
        # What does not run natively tells nothing remotely, and another run like a failed one takes only time.
        if judge.ended(run) and client.stops_at_failure:
            break
    return Outcome(client.name, client.judge(runs), runs, client.is_timed)


def head(options: argparse.Namespace, device: Device, described: str, started: float) -> List[str]:
    manifest = clients.manifest()
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    kind = "a dry run on the software GPU" if options.device == "soft" else "a real GPU"
    return [
        f"{when}: {kind}",
        f"device: {described}",
        f"driver: {device.driver or 'the software GPU'}",
        f"bundle: {manifest['version']}, commit {manifest['commit']}, {manifest['binaries']}",
        f"machine: {os.cpu_count()} processors, {platform.release()}, {' '.join(platform.libc_ver())}, Python {platform.python_version()}",
        f"transports: {', '.join(device.transports)} on this machine; took {time.monotonic() - started:.0f} s",
    ]


def check_all(options: argparse.Namespace, folder: Path, logs: Path) -> List[Outcome]:
    started = time.monotonic()
    outcomes: List[Outcome] = []
    wanted = chosen(options)
    with Device(options.device, options.transports.split(","), logs) as device:
        described = device.describe()
        print(f"{described}\n{', '.join(device.addresses.values())}", flush=True)
        try:
            for client in wanted:
                outcomes.append(run_client(client, device, started + options.budget))
                print(report.line(outcomes[-1]), flush=True)
                if not device.is_alive():
                    break
        finally:
            # An interrupted run has results too.
            report.write(folder, head(options, device, described, started), outcomes, logs)
    return outcomes


def main() -> int:
    options = arguments()
    # A time limit from outside ends this with SIGTERM: what was found until then is kept.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(options.out or os.environ.get("OUT") or "results").absolute()
    logs = Path(tempfile.mkdtemp(prefix="gpu-check-logs-"))
    try:
        if options.list:
            print("\n".join(client.name for client in clients.all_clients(options.python)))
            return 0
        outcomes = check_all(options, folder, logs)
    except Failure as failure:
        print(f"FAIL {failure}", flush=True)
        return 1
    finally:
        shutil.rmtree(logs, ignore_errors=True)
    print(f"results: {folder}/summary.md, checks.txt, results.json, logs.tar.gz\n{report.counts(outcomes)}", flush=True)
    return 1 if any(outcome.verdict.word == FAIL for outcome in outcomes) else 0
