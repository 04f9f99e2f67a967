"""Writes small pictures as SVG: shapes in a coordinate system of pixels, self-contained, without any library."""

from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

Point = tuple[float, float]
FONT = "DejaVu Sans, Helvetica, Arial, sans-serif"


class Svg:
    """A picture of a width and height in px, white; shapes are drawn one over another."""

    def __init__(self, width: float, height: float) -> None:
        self._width, self._height = width, height
        self._shapes: list[str] = []
        self.rectangle(0, 0, width, height, "#ffffff")

    def rectangle(self, x: float, y: float, width: float, height: float, fill: str, opacity: float = 1.0) -> None:
        """Draw a filled rectangle; nothing if it has no extent."""
        if width > 0 and height > 0:
            self._shapes.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" '
                f'fill-opacity="{opacity:g}"/>'
            )

    def line(self, points: Iterable[Point], stroke: str, width: float = 1.0, dashes: str = "") -> None:
        """Draw a line through points."""
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._shapes.append(
            f'<polyline points="{_points(points)}" fill="none" stroke="{stroke}" stroke-width="{width:g}"{dashed} '
            'stroke-linejoin="round"/>'
        )

    def area(self, points: Iterable[Point], fill: str, opacity: float = 1.0) -> None:
        """Draw a filled polygon."""
        self._shapes.append(f'<polygon points="{_points(points)}" fill="{fill}" fill-opacity="{opacity:g}"/>')

    def text(self, x: float, y: float, words: str, size: float = 11, anchor: str = "start", fill: str = "#222") -> None:
        """Write words with their baseline at ``y``; ``anchor`` is start, middle or end."""
        self._shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-family="{FONT}" font-size="{size:g}" text-anchor="{anchor}" '
            f'fill="{fill}">{escape(words)}</text>'
        )

    def __str__(self) -> str:
        size = f'width="{self._width:g}" height="{self._height:g}" viewBox="0 0 {self._width:g} {self._height:g}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n' + "\n".join(self._shapes) + "\n</svg>\n"

    def write(self, path: Path) -> None:
        """Write the picture to a file."""
        path.write_text(str(self), encoding="utf-8")


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
