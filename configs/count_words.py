"""Numbers with their units in messages."""


def counted(number: float, unit: str) -> str:
    """`1 pair`, `8 pairs`, `0.5 minutes`: the number, and its unit in the plural unless the number reads as 1."""
    text = f"{number:,.10g}"
    return f"{text} {unit}" if text == "1" else f"{text} {unit}s"
