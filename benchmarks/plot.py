"""The picture: throughput and latency by the number of threads, of all systems of one run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from benchmarks.suite import Found

COLOURS = {"ceiling": "0.6", "tinyraft": "tab:blue", "pysyncobj": "tab:orange", "etcd": "tab:green"}
STYLES = {"local": "-", "remote": "--"}
PANELS = (("per_second", "commands a second"), ("p50_ms", "median latency, ms"))


def is_possible() -> bool:
    """Whether there is something to draw with."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(found: Found, path: Path) -> None:
    """Write an SVG to *path*."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "tinyraft"  # equal figures give equal files
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    whats = dict.fromkeys(s.what.partition(" @")[0] for s in found.samples if s.part == "threads")
    for axes, (name, label) in zip(figure.subplots(1, 2), PANELS, strict=True):
        for what in whats:
            system, _, where = what.partition(", ")
            if where in STYLES:
                draw_line(axes, found, what, name, COLOURS[system], STYLES[where])
        axes.set(xscale="log", yscale="log", xlabel="threads that wait for their answer")
        axes.set_title(label)
        axes.grid(visible=True, which="both", alpha=0.25)
    figure.axes[0].legend(fontsize="small")
    figure.savefig(path, format="svg", metadata={"Date": None})


def draw_line(axes: Any, found: Found, what: str, name: str, colour: str, style: str) -> None:
    """Draw one system."""
    points = sorted(
        (int(s.what.partition(" @")[2]), found.middle("threads", s.what, name))
        for s in found.samples
        if s.part == "threads" and s.what.partition(" @")[0] == what and s.round == 0
    )
    threads, values = zip(*points, strict=True)
    axes.plot(threads, values, style, color=colour, marker="o", markersize=3, label=what)
    axes.set_xticks(threads, labels=map(str, threads))
    axes.minorticks_off()
