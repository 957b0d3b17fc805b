"""On what the numbers of a report were computed."""

from typing import Any


def machine_and_versions(result: dict[str, Any]) -> dict[str, str]:
    """What the report shows of metrics.json: device, precision, number of processes if there were several, the commit
    of this program, and the versions of the packages. Empty if metrics.json has none of them."""
    found: dict[str, str] = {}
    if machine := result.get("machine"):
        device = f"{machine['device']} ({machine['name']})" if machine.get("name") else machine["device"]
        several = f", {machine['processes']} processes" if machine.get("processes", 1) > 1 else ""
        found["device"] = device + several
        found["precision"] = f"arithmetic {machine['precision']}, frozen weights {machine['weights']}"
    if commit := result.get("commit"):
        found["this program"] = f"commit {commit}"
    return found | result.get("versions", {})
