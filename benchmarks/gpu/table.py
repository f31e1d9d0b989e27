"""The results in few lines, for a terminal; and what docs/speed.md says of them."""

import statistics

NOT_MEASURED = "Nothing has been measured on a GPU yet: `make gpu` does, in one call."
TOLERANCES = "0.01", "0.001", "0.0001"
SHOWN = "0.001"  # docs/speed.md


def of(document: dict) -> str:
    lines = [f"{step}: {how}" for step, how in document.get("run", {}).items()]
    machine = document.get("machine", {})
    lines.append(f"device {machine.get('device')}, {machine.get('versions')}")
    smoke = document.get("smoke", {})
    lines.append(f"smoke: wrong in {smoke.get('wrong', 'no answer')}")
    suite = document.get("suite", {})
    lines.append(f"tests: {suite.get('ran')} ran, {suite.get('failed')} failed")
    for name, found in document.get("training", {}).items():
        if not isinstance(found, dict):
            continue
        keys = "seconds_per_step", "iterations_per_step", "idle_share", "copies_to_host", "seconds"
        keys += ("student_accuracy",)
        told = {k: round(found[k], 5) for k in keys if isinstance(found.get(k), int | float)}
        lines.append(f"training {name}: {told or found.get('failed')}")
    for name, found in document.get("race", {}).items():
        lines.append(f"{name}: {_race(found)}")
    if times := ratios(document):
        lines.append(f"the fastest other takes {statistics.median(times):.1f} times as long")
    if times := over_floor(document):
        lines.append(f"the device's floor is exceeded {statistics.median(times):.1f} times")
    for step in ("iteration", "streaming", "memory"):
        for name, found in document.get(step, {}).items():
            lines.append(f"{step} {name}: {_short(found)}")
    return "\n".join(lines)


def readme(document: dict | None) -> str:
    """The docs table of one machine's results, or that there are none."""
    raced = {k: v for k, v in (document or {}).get("race", {}).items() if "ours" in v}
    if not raced:
        return NOT_MEASURED
    rows = [
        "| n = m | d | noise | cost | privgan | fastest other |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for key, found in raced.items():
        n, d, p, noise = key.split()
        cost = "squared L2" if p == "p=2" else "L1"
        ours, best = found["ours"].get(SHOWN), fastest(found, SHOWN)
        told = f"**{1e3 * ours['seconds']:.1f}**" if ours else "none"
        other = f"{1e3 * best[0]:.1f} {best[1]}" if best else "none"
        rows.append(f"| {n[2:]} | {d[2:]} | {noise} | {cost} | {told} | {other} |")
    return "\n".join(rows)


def fastest(found: dict, tol: str) -> tuple[float, str] | None:
    """Seconds and name of the other that was first at a tolerance, if one got there."""
    known = [(v[tol]["seconds"], k) for k, v in found["others"].items() if _got(v, tol)]
    return min(known, default=None)


def ratios(document: dict) -> list[float]:
    """The fastest other's time over ours, where there is one, at every tolerance."""
    raced = [v for v in document.get("race", {}).values() if "ours" in v]
    pairs = [(v["ours"][tol], fastest(v, tol)) for v in raced for tol in v["ours"]]
    return [best[0] / ours["seconds"] for ours, best in pairs if best]


def over_floor(document: dict) -> list[float]:
    """Our time over the device's floor, where that is known."""
    raced = [v for v in document.get("race", {}).values() if "ours" in v]
    answers = [answer for v in raced for answer in v["ours"].values()]
    return [a["seconds"] / a["floor_seconds"] for a in answers if a.get("floor_seconds")]


def _got(found, tol: str) -> bool:
    return isinstance(found, dict) and isinstance(found.get(tol), dict)


def _race(found) -> str:
    if "ours" not in found:
        return str(found)[:200]
    told = [_times("privgan", found["ours"])]
    others = found.get("others", {})
    told += [_times(k, v) for k, v in others.items() if isinstance(v, dict)]
    told += [f"{k}: {v[:60]}" for k, v in others.items() if isinstance(v, str)]
    return "; ".join(told)


def _times(name: str, found: dict) -> str:
    """Milliseconds to 1e-2, 1e-3 and 1e-4, and the iterations."""
    parts = []
    for tol in TOLERANCES:
        answer = found.get(tol)
        known = isinstance(answer, dict)
        parts.append(f"{1e3 * answer['seconds']:.2f}({answer['iterations']})" if known else "-")
    return f"{name} {' '.join(parts)} ms"


def _short(found) -> str:
    if not isinstance(found, dict):
        return str(found)
    if "failed" in found:
        return found["failed"]
    return ", ".join(f"{k} {v:.3g}" for k, v in found.items() if isinstance(v, int | float))
