"""Drawing the series of a soak: one small panel for each kind of figure, over the same time."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from PIL import Image

from torture.soak.flatness import Sample
from torture.soak.series import SERIES

COLUMNS = 3
PANEL_INCHES = (4.6, 2.1)
DOTS_PER_INCH = 80
# So few make the file a third as large, and nobody sees a difference.
COLOURS = 64


def draw(samples: Sequence[Sample], title: str, path: Path) -> None:
    """Draws the samples into `path`, a PNG file."""
    panels = list(dict.fromkeys(series.panel for series in SERIES if series.panel))
    rows = -(-len(panels) // COLUMNS)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(COLUMNS * width, rows * height), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(title)
    for number, panel in enumerate(panels):
        _draw_panel(figure.add_subplot(rows, COLUMNS, number + 1), panel, samples)
    with BytesIO() as drawn:
        figure.savefig(drawn, format="png")
        Image.open(drawn).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def _draw_panel(axes: Axes, panel: str, samples: Sequence[Sample]) -> None:
    minutes = [sample["elapsed_s"] / 60 for sample in samples]
    for series in (series for series in SERIES if series.panel == panel):
        values = [sample[series.name] for sample in samples]
        axes.plot(minutes, values, linewidth=0.9, label=_label(series.name))
    axes.set_title(panel, loc="left", fontsize=9)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes", fontsize=7)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(visible=True, linewidth=0.3)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6, frameon=False)


def _label(name: str) -> str:
    return name.replace("_", " ")
