"""What was found, written down: a line for each client as it ends, and a summary in Markdown for docs/gpu-results.md."""

import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional

from . import judge
from .judge import FAIL, PASS, SKIP, Run, Verdict


@dataclass
class Outcome:
    """One client's runs and verdict."""

    name: str
    verdict: Verdict
    runs: List[Run] = field(default_factory=list)
    is_timed: bool = True

    def seconds(self, is_native: bool) -> Optional[float]:
        times = [judge.time_of(run) for run in self.runs if run.is_native == is_native and run.status is not None]
        return min(times, default=None)

    def ratio(self) -> Optional[float]:
        if not self.is_timed or self.verdict.word == SKIP:
            return None
        native, remote = self.seconds(True), self.seconds(False)
        return native / remote if native and remote else None

    def is_step(self) -> bool:
        return any("step" in (run.saved or {}).get("times", {}) for run in self.runs)


def milliseconds(value: Optional[float]) -> str:
    return "" if value is None else f"{value * 1e3:.1f}"


def line(outcome: Outcome) -> str:
    verdict = outcome.verdict
    text = f"{verdict.word} {outcome.name:<34}"
    if outcome.runs and verdict.word != SKIP:
        ratio = outcome.ratio()
        text += f" native {milliseconds(outcome.seconds(True)):>8} ms, remote {milliseconds(outcome.seconds(False)):>8} ms"
        text += f", ratio {ratio:.2f}" if ratio else ""
        if verdict.differences:
            text += f", {len(verdict.differences)} differences"
    if verdict.word == SKIP:
        text += " " + "; ".join(verdict.details)
    else:
        text += "".join(f"\n       {detail}" for detail in verdict.details)
    return text


def counts(outcomes: List[Outcome]) -> str:
    numbers = [sum(outcome.verdict.word == word for outcome in outcomes) for word in (PASS, FAIL, SKIP)]
    return "{} passed, {} failed, {} skipped".format(*numbers)


def summary(head: List[str], outcomes: List[Outcome]) -> str:
    lines = ["## " + head[0], ""] + [f"- {text}" for text in head[1:]] + [f"- {counts(outcomes)}", ""]
    lines += ["| client | verdict | native ms | remote ms | native/remote | |", "|---|---|---:|---:|---:|---|"]
    for outcome in outcomes:
        ratio = outcome.ratio()
        remark = "; ".join(outcome.verdict.details)[:400].replace("|", "\\|").replace("\n", " ")
        if outcome.is_step():
            equal = "bit-equal" if judge.is_bit_equal(outcome.runs) else "equal within the noise"
            remark = "; ".join(filter(None, ["time of a step", equal if outcome.verdict.word == PASS else "", remark]))
        lines.append(
            f"| {outcome.name} | {outcome.verdict.word} | {milliseconds(outcome.seconds(True))} "
            f"| {milliseconds(outcome.seconds(False))} | {f'{ratio:.2f}' if ratio else ''} | {remark} |"
        )
    lines += ["", "Times are the best run of each side: the whole program's, unless it says otherwise."]
    lines += section("Measured natively", notes(outcomes, True)) + section("Measured remotely", notes(outcomes, False))
    lines += section("Other answers remotely", differences(outcomes))
    lines += section("Functions that clients asked for and that are not served", refused(outcomes))
    return "\n".join(lines) + "\n"


def section(title: str, lines: List[str]) -> List[str]:
    return ["", f"### {title}", "", *lines] if lines else []


def notes(outcomes: List[Outcome], is_native: bool) -> List[str]:
    found = []
    for outcome in outcomes:
        for run in [run for run in outcome.runs if run.is_native == is_native][:1]:
            found += [f"- `{outcome.name}` {name}: {text}" for name, text in judge.checks_of(run.stdout)[1]]
    return found


def differences(outcomes: List[Outcome]) -> List[str]:
    return [f"- `{outcome.name}` {text}" for outcome in outcomes for text in outcome.verdict.differences]


def refused(outcomes: List[Outcome]) -> List[str]:
    who = {}
    for outcome in outcomes:
        for run in outcome.runs:
            for name in run.refused:
                who.setdefault(name, []).append(outcome.name)
    return [f"- `{name}`: {', '.join(dict.fromkeys(clients))}" for name, clients in sorted(who.items())]


def checks(outcomes: List[Outcome]) -> str:
    """Every line of the driver checks, both sides."""
    lines = []
    for outcome in outcomes:
        for run in outcome.runs:
            report = [text for text in run.stdout.splitlines() if text.startswith(("check ", "note ", "end "))]
            if report:
                lines += [f"# {outcome.name}, {run.side}", *report, ""]
    return "\n".join(lines)


def write(folder: Path, head: List[str], outcomes: List[Outcome], logs: Path):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.md").write_text(summary(head, outcomes))
    (folder / "checks.txt").write_text(checks(outcomes))
    rows = [
        {
            "client": outcome.name,
            "verdict": outcome.verdict.word,
            "details": outcome.verdict.details,
            "differences": outcome.verdict.differences,
            "runs": [
                {"side": run.side, "status": run.status, "seconds": run.seconds, "times": (run.saved or {}).get("times"), "refused": run.refused}
                for run in outcome.runs
            ],
        }
        for outcome in outcomes
    ]
    (folder / "results.json").write_text(json.dumps({"head": head, "clients": rows}, indent=1))
    with tarfile.open(folder / "logs.tar.gz", "w:gz") as archive:
        archive.add(logs, arcname="logs")
