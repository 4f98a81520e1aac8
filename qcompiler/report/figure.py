"""The empty drawing of one stage: the library's models, whose data the page's script fills in."""

from __future__ import annotations

from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, HoverTool, PanTool, Range1d, WheelZoomTool
from bokeh.plotting import figure

FONT = "system-ui, sans-serif"
LABEL_STYLES = (("left", "bold"), ("left", "normal"), ("left", "normal"), ("right", "bold"))
"""Name, summary, type and error of a box."""


def new_figure(name: str) -> figure:
    """A figure that pans and zooms, without axes.

    Its data sources are ``NAME-frames`` (unfolded layers), ``NAME-edges``, ``NAME-arrows``, ``NAME-boxes``,
    ``NAME-stripes`` and ``NAME-labels-source-0`` to ``3``. The renderers ``NAME-labels-0`` to ``3`` and
    ``NAME-arrow-heads`` can be found by name, too.
    Coordinates are pixels at zoom 1, y downwards.
    """
    plot = figure(
        name=name, sizing_mode="stretch_both", min_border=0, outline_line_color=None, toolbar_location=None,
        background_fill_color=None, border_fill_color=None, tools=[],
        x_range=Range1d(start=0, end=1), y_range=Range1d(start=1, end=0),
    )
    plot.axis.visible = False
    plot.grid.visible = False
    outlined = {"fill_color": "fill", "line_color": "line", "line_width": "thickness"}
    plot.rect("x", "y", "w", "h", source=_source(name, "frames", "x y w h fill line thickness"), border_radius=8,
              line_dash=[5, 3], **outlined)
    plot.multi_line("xs", "ys", source=_source(name, "edges", "xs ys line thickness"), line_color="line",
                    line_width="thickness", line_cap="round")
    plot.scatter("x", "y", source=_source(name, "arrows", "x y line size"), marker="inverted_triangle",
                 size="size", fill_color="line", line_color=None, name=f"{name}-arrow-heads")
    boxes = plot.rect("x", "y", "w", "h", source=_source(name, "boxes", "x y w h fill line thickness full"),
                      border_radius=6, **outlined)
    plot.rect("x", "y", "w", "h", source=_source(name, "stripes", "x y w h fill"), fill_color="fill",
              line_color=None, border_radius=3)
    for index, (align, style) in enumerate(LABEL_STYLES):
        plot.text(
            "x", "y", "text", source=_source(name, f"labels-source-{index}", "x y text color"), text_color="color",
            text_align=align, text_baseline="middle", text_font_style=style, text_font=value(FONT),
            name=f"{name}-labels-{index}",
        )
    pan, wheel = PanTool(), WheelZoomTool(zoom_on_axis=False, speed=1 / 400)
    plot.add_tools(pan, wheel, HoverTool(renderers=[boxes], tooltips=[("", "@full")], show_arrow=False))
    plot.toolbar.active_drag = pan
    plot.toolbar.active_scroll = wheel
    return plot


def _source(figure_name: str, name: str, columns: str) -> ColumnDataSource:
    return ColumnDataSource({column: [] for column in columns.split()}, name=f"{figure_name}-{name}")
