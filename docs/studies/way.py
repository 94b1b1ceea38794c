"""The figure of the page on concepts, docs/concepts.svg: `python docs/studies/way.py`."""

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from page import HERE

matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
matplotlib.rcParams["svg.hashsalt"] = "way"  # the same file every time

FOLDERS = {
    "data set": (0, 3),
    "tokenizer/\nmodel": (2, 3),
    "codes/": (4, 3),
    "prior/\npipeline": (6, 3),
    "samples/": (8, 3),
    "classifier/\nmodel": (2, 2),
    "score.json\nreport.html": (8, 2),
}
COMMANDS = [
    ("data set", "tokenizer/\nmodel", "train-\ntokenizer"),
    ("tokenizer/\nmodel", "codes/", "encode"),
    ("codes/", "prior/\npipeline", "train-\nprior"),
    ("prior/\npipeline", "samples/", "sample"),
    ("samples/", "score.json\nreport.html", "score"),
    ("data set", "classifier/\nmodel", "train-classifier"),
    ("classifier/\nmodel", "score.json\nreport.html", ""),
]
TOKENIZER = {
    "item\nimage or clip": (0, 0.6),
    "latents\n(n, d)": (2, 0.6),
    "codes\nn integers": (4, 0.6),
    "vectors\n(n, d)": (6, 0.6),
    "reconstruction": (8, 0.6),
}
PARTS = ["encoder", "nearest of\nC W + b", "lookup", "decoder"]
WIDTH, HEIGHT = 1.25, 0.55


def boxes(axis: Axes, nodes: dict[str, tuple[float, float]], colour: str) -> None:
    """A named box at each place."""
    for name, (x, y) in nodes.items():
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        axis.add_patch(pyplot.Rectangle(corner, WIDTH, HEIGHT, fc=colour, ec="0.4"))
        axis.text(x, y, name, ha="center", va="center", fontsize=9)


def arrow(axis: Axes, begin: tuple[float, float], end: tuple[float, float], label: str) -> None:
    """An arrow between two boxes, its label above it, or beside it where it goes down."""
    across = end[0] > begin[0]
    down = (begin[1] > end[1]) - (begin[1] < end[1])
    tail = (begin[0] + WIDTH / 2 * across, begin[1] - HEIGHT / 2 * down * (not across))
    head = (end[0] - WIDTH / 2 * across, end[1] + HEIGHT / 2 * down * (not across))
    axis.annotate("", head, tail, arrowprops={"arrowstyle": "->", "color": "0.3"})
    place = ((tail[0] + head[0]) / 2, (tail[1] + head[1]) / 2)
    shift, side = ((0, 5), "center") if across else ((5, 0), "left")
    if across and down:
        shift, side = (-12, -14), "right"
    axis.annotate(
        label,
        place,
        shift,
        textcoords="offset points",
        ha=side,
        va="bottom",
        fontsize=8,
        color="C0",
    )


if __name__ == "__main__":
    figure, axis = pyplot.subplots(figsize=(9, 3.9), layout="constrained")
    boxes(axis, FOLDERS, "#e8f0fa")
    for begin, end, command in COMMANDS:
        arrow(axis, FOLDERS[begin], FOLDERS[end], command)
    boxes(axis, TOKENIZER, "#fdf1dc")
    places = list(TOKENIZER.values())
    for begin, end, part in zip(places, places[1:], PARTS, strict=False):
        arrow(axis, begin, end, part)
    axis.text(-0.7, 3.65, "commands, and the folders that they make", weight="bold", fontsize=9)
    axis.text(-0.7, 1.25, "inside the tokenizer", weight="bold", fontsize=9)
    axis.set(xlim=(-0.8, 8.8), ylim=(0.2, 3.9))
    axis.axis("off")
    figure.savefig(HERE.parent / "concepts.svg", metadata={"Date": None})
