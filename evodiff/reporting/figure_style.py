"""The look of the report's Plotly figures, which are plain dictionaries, ``{"data": [...], "layout": {...}}``.

Colours are names of CSS variables (``var(--front)``); the page's script puts in what they stand for in light or dark.
Written as data rather than through ``plotly.graph_objects``, whose import costs a second, and tested against it.
"""

from __future__ import annotations

from typing import Any, Final

Figure = dict[str, Any]

FRONT: Final = "var(--front)"
MUTED: Final = "var(--dominated)"
CHAMPION: Final = "var(--champion)"
RANDOM: Final = "var(--random)"
ZOO: Final = "var(--zoo)"
SERIES: Final = (FRONT, RANDOM, ZOO, CHAMPION, "var(--series-5)", "var(--series-6)")
DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def layout(horizontal: str, vertical: str, **more: Any) -> dict[str, Any]:
    """Return a layout with the page's look and these axis titles."""

    def axis(text: str) -> dict[str, Any]:
        return {
            "title": {"text": text, "standoff": 10},
            "gridcolor": "var(--line)",
            "zeroline": False,
            "linecolor": "var(--line)",
            "automargin": True,
        }

    return {
        "xaxis": axis(horizontal),
        "yaxis": axis(vertical),
        "font": {
            "family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif",
            "size": 12,
            "color": "var(--text)",
        },
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 60, "r": 16, "t": 30, "b": 50},
        "legend": {"orientation": "h", "y": 1.03, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"align": "left", "bgcolor": "var(--card)", "font": {"color": "var(--text)"}},
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--muted)", "activecolor": "var(--accent)"},
        **more,
    }


def inert(text: object) -> str:
    """Plotly reads a few tags in its texts; names out of the data must stay names."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
