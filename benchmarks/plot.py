"""The picture: throughput and latency by the number of threads, of all systems of one run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from benchmarks.suite import Found

COLOURS = {"ceiling": "0.6", "tinyraft": "tab:blue", "pysyncobj": "tab:orange", "etcd": "tab:green"}
STYLES = {"local": "-", "remote": "--"}
PANELS = {"per_second": "commands a second", "p50_ms": "median latency, ms"}


def is_possible() -> bool:
    """Whether there is something to draw with."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(found: Found, path: Path) -> None:
    """Write an SVG to *path*."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "tinyraft"  # equal figures give equal files
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, figure_name in zip(figure.subplots(1, 2), PANELS, strict=True):
        draw_panel(axes, found, figure_name)
    figure.axes[0].legend(fontsize="small")
    figure.savefig(path, format="svg", metadata={"Date": None})


def draw_panel(axes: Any, found: Found, figure: str) -> None:
    """Draw one figure of all systems that have callers in a leader's process or another one."""
    names = [s.what.partition(" @") for s in found.samples if s.part == "threads"]
    numbers = sorted({int(threads) for _, _, threads in names if threads})
    axes.set(xscale="log", yscale="log", xlabel="threads that wait for their answer")
    axes.set_title(PANELS[figure])
    for what in dict.fromkeys(what for what, _, _ in names):
        system, _, where = what.partition(", ")
        if where in STYLES:
            values = [found.middle("threads", f"{what} @{n}", figure) for n in numbers]
            style = {"linestyle": STYLES[where], "color": COLOURS[system]}
            axes.plot(numbers, values, marker="o", markersize=3, label=what, **style)
    axes.set_xticks(numbers, labels=map(str, numbers))
    axes.xaxis.minorticks_off()
    axes.grid(visible=True, which="both", alpha=0.25)
