"""What an outcome is worth. Nothing here touches a file or a process, so all of it has tests (test_judge.py)."""

import math
import re
from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple, Optional, Tuple

PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"

# A client's way to say that what it needs is not installed; its last line of output says what.
NOT_INSTALLED = 77


@dataclass
class Run:
    """One run of a client on one side."""

    side: str  # "native", or the transport of a remote run
    status: Optional[int]  # None: it took too long
    seconds: float
    stdout: str
    stderr: str
    refused: List[str] = field(default_factory=list)  # driver functions that are not served, in the order met
    saved: Optional[dict] = None  # what a Python client wrote: {"values": {name: [numbers]}, "times": {name: seconds}}

    @property
    def is_native(self):
        return self.side == "native"


@dataclass
class Verdict:
    word: str
    details: List[str] = field(default_factory=list)
    differences: List[str] = field(default_factory=list)  # of fidelity: listed, no failure


def ended(run: Run) -> str:
    """How a run ended, in words; empty for well."""
    if run.status is None:
        return f"not over after {run.seconds:.0f} s"
    if run.status < 0:
        return f"ended by signal {-run.status}"
    return "" if run.status == 0 else f"exit status {run.status}"


def last_words(run: Run) -> str:
    """The line that most likely says why."""
    lines = [line.strip() for line in (run.stdout + "\n" + run.stderr).splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(FAIL |\w*Error\b|.*Error: |.*CUDA_ERROR|.*cudaError|gpurun: )", line)]
    failed = [line for line in telling if line.startswith("FAIL ")]
    return (failed or telling or lines or ["it said nothing"])[-1][:300]


def where(run: Run) -> str:
    """The part of a Python client in which it ended."""
    sections = re.findall(r"^section (.*)$", run.stdout, re.MULTILINE)
    return f" in \"{sections[-1]}\"" if sections else ""


def not_installed(runs: List[Run]) -> Optional[str]:
    for run in runs:
        if run.status == NOT_INSTALLED:
            return (run.stdout.strip().splitlines() or ["not installed"])[-1]
    return None


def basic(runs: List[Run]) -> Verdict:
    """Every run has to end well."""
    missing = not_installed([run for run in runs if run.is_native])
    if missing:
        return Verdict(SKIP, [missing])
    details = []
    for run in runs:
        how = ended(run)
        if how:
            details.append(f"{run.side}: {how}{where(run)}: {last_words(run)}")
        if run.refused and how:
            details.append(f"{run.side}: not served: {', '.join(run.refused)}")
    return Verdict(FAIL if details else PASS, details)


def program(runs: List[Run]) -> Verdict:
    """A C++ program that checks itself and says so."""
    verdict = basic(runs)
    if verdict.word == PASS:
        silent = [run.side for run in runs if "PASS " not in run.stdout]
        if silent:
            return Verdict(FAIL, [f"no PASS line: {', '.join(silent)}"])
    return verdict


# What a device's description says otherwise at a distance, on purpose.
EDITED = ("~", "canMapHostMemory", "memoryPoolsSupported", "hostRegisterSupported", "ipcEventSupported")


def description(runs: List[Run]) -> Verdict:
    """device_query: the same description on both sides, but for what is edited."""
    verdict = program(runs)
    if verdict.word != PASS:
        return verdict
    native = [run for run in runs if run.is_native][0]
    for run in runs:
        pairs = zip(unedited(native.stdout), unedited(run.stdout))
        verdict.details += [f"{run.side}: {theirs!r}, native {ours!r}" for ours, theirs in pairs if ours != theirs]
        if len(unedited(native.stdout)) != len(unedited(run.stdout)):
            verdict.details.append(f"{run.side}: another number of lines")
    verdict.word = FAIL if verdict.details else PASS
    return verdict


def unedited(text: str) -> List[str]:
    return [line for line in text.splitlines() if not line.startswith(EDITED)]


def printing(expected: str):
    """device_printf: the output is exactly this."""

    def judge(runs: List[Run]) -> Verdict:
        verdict = basic(runs)
        others = [run.side for run in runs if verdict.word == PASS and run.stdout != expected]
        return Verdict(FAIL, [f"other output: {', '.join(others)}"]) if others else verdict

    return judge


class Check(NamedTuple):
    expected: str
    got: str
    word: str


CHECK = re.compile(r"^check (\S+): expected (.*), got (.*) (OK|DIFFERS|SKIPPED)$")
NOTE = re.compile(r"^note (\S+): (.*)$")


def checks_of(text: str) -> Tuple[Dict[str, Check], List[Tuple[str, str]], bool]:
    """The checks of a report by name, its notes, and whether it came to its end."""
    checks, notes, is_whole = {}, [], False
    for line in text.splitlines():
        match = CHECK.match(line)
        if match:
            checks[match[1]] = Check(*match.groups()[1:])
        match = NOTE.match(line)
        if match:
            notes.append((match[1], match[2]))
        is_whole |= line.startswith("end ")
    return checks, notes, is_whole


def assumptions(may_crash: bool = False):
    """A group of driver checks: natively each must be as expected; what differs remotely is listed."""

    def judge(runs: List[Run]) -> Verdict:
        verdict = Verdict(PASS)
        native = [run for run in runs if run.is_native]
        baseline: Dict[str, Check] = {}
        for run in native:
            checks, _, is_whole = checks_of(run.stdout)
            baseline.update(checks)
            wrong = [f"native: {name}: expected {c.expected}, got {c.got}" for name, c in checks.items() if c.word == "DIFFERS"]
            verdict.details += [line for line in wrong if line not in verdict.details]
            if not is_whole:
                last = list(checks)[-1] if checks else "the beginning"
                words = f"native: {ended(run) or 'no end'} after {last}"
                (verdict.differences if may_crash else verdict.details).append(words)
        for run in runs:
            if not run.is_native:
                compare_checks(run, baseline, all(checks_of(one.stdout)[2] for one in native), verdict)
        verdict.word = FAIL if verdict.details else PASS
        return verdict

    return judge


def compare_checks(run: Run, baseline: Dict[str, Check], is_whole_natively: bool, verdict: Verdict):
    checks, _, is_whole = checks_of(run.stdout)
    if not is_whole and is_whole_natively:
        last = list(checks)[-1] if checks else "the beginning"
        verdict.details.append(f"{run.side}: {ended(run) or 'no end'} after {last}: {last_words(run)}")
    for name, check in checks.items():
        known = baseline.get(name)
        if check.word == "SKIPPED" and (known is None or known.word != "SKIPPED"):
            note = f"{name}: not served ({check.got})"
        elif known is None:
            note = f"{name}: {check.got}, not reached natively"
        elif known.got != check.got:
            note = f"{name}: {check.got}, natively {known.got}"
        else:
            continue
        if note not in verdict.differences:
            verdict.differences.append(note)


# How far apart results may be beyond what two native runs are: the last bits of single precision.
RELATIVE, NOISE_FACTOR = 1e-6, 4


def results(runs: List[Run]) -> Verdict:
    """A Python client: each remote run's numbers equal the native ones within the noise of native against native."""
    verdict = basic(runs)
    if verdict.word != PASS:
        return verdict
    native = [run for run in runs if run.is_native]
    if any(run.saved is None for run in runs):
        return Verdict(FAIL, [f"{run.side}: no results were saved" for run in runs if run.saved is None])
    for run in runs:
        if run.is_native:
            continue
        verdict.details += compare_values(run, native)
    verdict.word = FAIL if verdict.details else PASS
    return verdict


def compare_values(run: Run, native: List[Run]) -> List[str]:
    problems = []
    first = native[0].saved["values"]
    if set(first) != set(run.saved["values"]):
        return [f"{run.side}: other results: {sorted(set(first) ^ set(run.saved['values']))}"]
    for name, expected in first.items():
        got = run.saved["values"][name]
        noise = max((distance(expected, other.saved["values"][name]) for other in native[1:]), default=0.0)
        apart = distance(expected, got)
        allowed = max(NOISE_FACTOR * noise, RELATIVE * largest(expected))
        if not apart <= allowed:
            problems.append(f"{run.side}: {name} is {apart:.3g} apart, native runs {noise:.3g}")
    return problems


def distance(one: List[float], other: List[float]) -> float:
    """The largest difference of two lists; infinite where their lengths or their NaNs differ."""
    if len(one) != len(other):
        return math.inf
    most = 0.0
    for a, b in zip(one, other):
        if math.isnan(a) != math.isnan(b):
            return math.inf
        if not math.isnan(a) and a != b:
            most = max(most, abs(a - b))
    return most


def largest(values: List[float]) -> float:
    return max((abs(value) for value in values if math.isfinite(value)), default=0.0)


def is_bit_equal(runs: List[Run]) -> bool:
    saved = [run.saved["values"] for run in runs if run.saved]
    return bool(saved) and all(
        set(values) == set(saved[0]) and all(distance(saved[0][name], values[name]) == 0 for name in values) for values in saved
    )


def time_of(run: Run) -> float:
    """A client's own time of a step where it has one, else the whole run's."""
    times = (run.saved or {}).get("times") or {}
    return times.get("step", run.seconds)


def refusals(log: str) -> List[str]:
    """The driver functions that the library in the program says it does not serve, each once."""
    found = re.findall(r"gpurun: (\w+)(?: is not supported|: [^\n]*(?:not served|cannot reach|yet))", log)
    return list(dict.fromkeys(found))
