"""Where the dataset is, and the text that no page may act upon."""

from __future__ import annotations

from pathlib import Path

DATASET = Path(__file__).parents[2] / "datasets" / "intrusion"
HOSTILE = (
    '<img src=x onerror="document.title=1">\x1b[31m\u202egpj.exe</script><script>document.title=1</script>'
    + "A" * 10_000
)
