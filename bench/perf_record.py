"""What a measurement found: a text to read, and values to keep beside the machine they are of."""

import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from idbench.environment import environment
from idbench.files import write_whole

GAP = "   |   "


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """The result of a measurement; `values` is JSON with units in the names of its keys."""

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the numbers are of: processor, cores, memory, system, versions; no name of a host."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    } | environment(device)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def write_record(
    folder: Path, name: str, measured: Measured, arguments: Mapping[str, Any], device: str
) -> Path:
    """Writes `<folder>/<name>.json`; returns its path."""
    record = {
        "benchmark": name,
        "arguments": dict(sorted(arguments.items())),
        "machine": machine(device),
        "values": dict(measured.values),
        "text": measured.text.splitlines(),
    }
    path = folder / f"{name}.json"
    write_whole(path, (json.dumps(record, indent=2, default=str) + "\n").encode())
    return path


def side_by_side(texts: Mapping[str, str], width: int | None = None) -> str:
    """Texts under their names, in as many columns as `width` holds, by default the terminal's."""
    width = width or shutil.get_terminal_size((160, 24)).columns
    rows: list[list[list[str]]] = [[]]
    for name, text in texts.items():
        lines = text.splitlines()
        longest = max(len(line) for line in [name, *lines])
        block = [line.ljust(longest) for line in [name, "-" * longest, *lines]]
        used = sum(len(entry[0]) + len(GAP) for entry in rows[-1])
        if rows[-1] and used + longest > width:
            rows.append([])
        rows[-1].append(block)
    return "\n\n".join(_joined(row) for row in rows)


def _joined(blocks: list[list[str]]) -> str:
    blanks = [" " * len(block[0]) for block in blocks]
    lines = zip_longest(*blocks)
    return "\n".join(
        GAP.join(
            part if part is not None else blank for part, blank in zip(line, blanks, strict=True)
        ).rstrip()
        for line in lines
    )
