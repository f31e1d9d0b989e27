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
    return "\n".join(lines)
