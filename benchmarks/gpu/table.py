"""The results in few lines, for a terminal."""


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
        told = {k: round(found[k], 5) for k in keys if isinstance(found.get(k), int | float)}
        lines.append(f"training {name}: {told or found.get('failed')}")
    for name, found in document.get("race", {}).items():
        lines.append(f"{name}: {_race(found)}")
    for step in ("iteration", "streaming", "memory"):
        for name, found in document.get(step, {}).items():
            lines.append(f"{step} {name}: {_short(found)}")
    return "\n".join(lines)


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
    for tol in ("0.01", "0.001", "0.0001"):
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
