"""The experiment `emulation`: outputs formed again from the order of their sum, and whether they have the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.data.frames import Frame, dtypes_in_order, ways_in_order
from analysis.data.study_data import Scope
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import Drawing, decimal_ticks, facets, key, legend, marks, styled
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, plot
from analysis.report.style import INK
from analysis.report.tables import Table, Text, arranged, slug, table

KEYS = ["machine", "device", "dtype", "way"]


def frames(rows: Frame) -> Frames:
    return {"emulation": tiles(rows)}


def tiles(rows: Frame) -> Frame:
    """Per place, dtype and method: how many tiles (problem and seed); for how many an order was found; how many are
    equal bit for bit, each output by an order of its kind (equal_tiles) and all by one (equal_one_tiles); the least
    share of equal outputs; the mean share whose products are rounded first, and in how many tiles that is so of some
    outputs alone (mixed); in how many of the equal tiles the error of what was formed again is the measured one.
    """
    done = rows[rows["status"] == "ok"]
    rounded = done["products_rounded"]
    same = (done["equal"] == 1) & (done["emulated_u"] == done["error_u"])
    return (
        done.assign(
            whole=done["equal"] == 1,
            whole_one=done["equal_one"] == 1,
            same=same,
            found=done["orders"] > 0,
            mixed=(rounded > 0) & (rounded < 1),
        )
        .groupby(KEYS, sort=True)
        .agg(
            tiles=("equal", "size"),
            seeds=("seed", "nunique"),
            found=("found", "sum"),
            equal_tiles=("whole", "sum"),
            equal_one_tiles=("whole_one", "sum"),
            least_equal=("equal", "min"),
            products_rounded=("products_rounded", "mean"),
            mixed=("mixed", "sum"),
            same_error=("same", "sum"),
        )
        .reset_index()
    )


@styled
def figure(rows: Frame) -> Drawing:
    """Errors predicted by forming the outputs again against errors measured, one panel per dtype."""
    known = choosing.shown(rows[(rows["error_u"] > 0) & (rows["emulated_u"] > 0)])
    dtypes, ways = dtypes_in_order(known["dtype"]), ways_in_order(known["way"])
    drawing, panels = facets(dtypes)
    for panel, dtype in zip(panels, dtypes, strict=True):
        of_dtype = known[known["dtype"] == dtype]
        low, high = of_dtype["error_u"].min() / 1.3, of_dtype["error_u"].max() * 1.3
        panel.plot([low, high], [low, high], color=INK, linewidth=0.8)
        for place, way in enumerate(ways):  # the first ones are larger, and still seen under others
            for equal in (True, False):
                chosen = of_dtype[((of_dtype["equal"] == 1) == equal) & (of_dtype["way"] == way)]
                titles = map(_said, chosen.to_dict("records"))
                marks(panel, chosen["error_u"], chosen["emulated_u"], titles, way, equal, max(3.4, 8.5 - 1.6 * place))
        panel.set(xscale="log", yscale="log", xlabel="measured error (u)", ylabel="predicted error (u)")
        decimal_ticks(panel.xaxis)
        decimal_ticks(panel.yaxis)
    legend(drawing, ways, [key("not equal bit for bit", marker="o", filled=False)])
    return drawing


def _said(row: Any) -> str:
    place = f"{row['problem']}, {row['dtype']}, {row['way']}, seed {row['seed']}"
    errors = [show.significant(row[name]) for name in ("error_u", "emulated_u")]
    return f"{place}: measured {errors[0]} u, predicted {errors[1]} u"


def tiles_table(name: str, found: Frame) -> Table:
    """found: `tiles` of one place."""
    caption = "Tiles whose outputs, formed again in the order in which the method was found to add, equal the method's "
    caption += (
        "bit for bit: all outputs in the order of most of them; each in that of its kind. A tile: outputs in the "
    )
    caption += (
        "first corner, the middle and the last corner of a layer's result, all channels; which kind an output is "
    )
    caption += (
        "of is found on other numbers. The least share of equal outputs is that of the worst tile with an order. "
    )
    caption += "Shares have no interval: layers are chosen, not drawn."
    columns: dict[str, Any] = {
        "dtype": lambda row: row.dtype,
        "method": lambda row: row.way,
        "order found": lambda row: _of(row.found, row.tiles),
        "equal, one order": lambda row: _of(row.equal_one_tiles, row.tiles),
        "equal, by kind": lambda row: _of(row.equal_tiles, row.tiles),
        "least share": lambda row: _share(row.least_equal),
        "products rounded first": lambda row: _share(row.products_rounded),
    }
    return table(name, caption, arranged(found, ["dtype", "way"]), columns, "emulation", (0, 1))


def _of(count: int, all_of: int) -> Text:
    return Text(f"{count} of {all_of}", kind="zero" if count == all_of else "")


def _share(value: float) -> str:
    """Never 100 % of what is not all."""
    if value != value:
        return show.DASH
    return "> 99.9 %" if 0.999 < value < 1 else show.percent(value)


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    found = frames["emulation"]
    if not int(found["found"].sum()):
        return None
    name = slug("emulation", scope.machine, scope.device)
    caption = f"The error of outputs that were formed again against the measured one, relative L2 ({scope.label}): one "
    caption += "mark per layer and seed, on the line where both are equal. Filled: equal bit for bit; open: not. "
    caption += f"n = {wording.seeds(found)}.{choosing.others(rows)}"
    alt = f"Marks on a diagonal, one panel per dtype. {sentence(found)}"
    drawn = plot(f"fig-{name}", caption, alt.replace("`", ""), "emulation_rows", figure(rows))
    return Content((drawn,), (tiles_table(f"{name}-tiles", found),), sentence(found), tuple(details(found)))


def sentence(found: Frame) -> str:
    """How many tiles come out equal, and what that says of the error. found: of `tiles`."""
    equal, of, same = (int(found[column].sum()) for column in ("equal_tiles", "tiles", "same_error"))
    text = f"{equal} of {show.plural(of, 'tile')} (method, layer, dtype) come out equal bit for bit, "
    text += f"{int(found['equal_one_tiles'].sum())} with one order for all of their outputs. "
    return text + f"Where it holds, the predicted error is the measured one: to the last digit in {same} of {equal}."


def details(found: Frame) -> Iterator[str]:
    """Per dtype, in how many tiles some products are rounded before they are added and others are not."""
    for dtype, rows in found[found["mixed"] > 0].groupby("dtype", sort=True):
        yield (
            f"{dtype}: in {int(rows['mixed'].sum())} of {show.plural(int(rows['found'].sum()), 'tile')} of "
            f"{wording.listed(ways_in_order(rows['way']))} some outputs' products are rounded before they are added, "
            "others' are not: those of a product's last rows and columns may be computed by other code."
        )


SECTION = experiment_section(
    "emulation",
    "emulation",
    "The same bits from the order of the sum",
    frames,
    part,
    files={"emulation": "How many tiles come out equal bit for bit from the order in which a method adds."},
    columns={
        "tiles": "how many tiles, one for each layer and seed",
        "found": "for how many of them an order of summation was found",
        "equal_one": "the share of a tile's outputs that are equal where all are formed again in one order",
        "equal_tiles": "tiles of which all outputs are equal, each formed again in an order of its kind",
        "equal_one_tiles": "tiles of which all outputs are equal, all formed again in one order",
        "least_equal": "the least share of equal outputs of a tile whose order was found",
        "orders": "how many ways of adding the tile's outputs have; 0 where none was found",
        "products_rounded": "the share of outputs whose products are rounded before they are added",
        "emulated_u": "the error of the outputs formed again against the exact result, relative L2, in units of u",
        "mixed": "tiles of which some outputs' products are rounded before they are added, others' are not",
        "same_error": "in how many of the equal tiles emulated_u is error_u",
    },
)
