"""Tables in Markdown, aligned so that they can be read as plain text too."""

from collections.abc import Sequence


def table(header: Sequence[str], lines: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Lay out a table; the first `text_columns` are aligned to the left, the others to the right."""
    widths = [max(3, *(len(line[column]) for line in (header, *lines))) for column in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if column < text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(aligned)} |"

    rule = [
        "-" * width if column < text_columns else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    return "\n".join([row(header), row(rule), *(row(line) for line in lines)])


def number(value: float | None) -> str:
    """Write a figure with about three digits that count, or a dash where there is none."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
