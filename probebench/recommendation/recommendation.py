"""A recommendation: what was found, which prints itself and writes the trained probe."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from probebench.errors import ProbebenchError
from probebench.recommendation import display, summary
from probebench.recommendation.findings import Findings

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType


@dataclass(frozen=True)
class Recommendation(Findings):
    """The recommended tap of a model for a dataset, with the attributes of `Findings`.

    `print` shows a summary, and so does a notebook; `save` writes the trained probe.
    """

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write the trained probe and a script that classifies images with it.

        Returns:
            the paths of ``probe.safetensors`` and ``classify.py`` in the folder, which is created if needed. If the
            network's weights are in a file of the user, the folder also gets them, as ``network.safetensors``

        Raises:
            StoreError: if they cannot be written, or would replace a ``classify.py`` that is not from probebench
        """
        return self.export.write(Path(folder))

    def to_dataframe(self) -> pd.DataFrame:
        """Return `table` as a pandas DataFrame, with the attributes of `TapRow` as columns and `tap` as the index.

        Raises:
            ProbebenchError: if pandas is not installed
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ProbebenchError("a DataFrame needs pandas: pip install 'probebench[notebook]'") from error
        return pd.DataFrame([asdict(row) for row in self.table]).set_index("tap")

    @property
    def columns(self) -> tuple[str, ...]:
        """The titles of `rows`."""
        return summary.columns(self)

    def lines(self) -> list[str]:
        """Return the summary, one fact per line, with a label of ten characters in all lines but the first."""
        return summary.lines(self)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of the table: the recommended tap, and those that it is compared with."""
        return summary.rows(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __rich__(self) -> RenderableType:
        return display.rich(self.lines(), self.columns, self.rows())

    def _repr_html_(self) -> str:
        return display.html(self.lines(), self.columns, self.rows())
