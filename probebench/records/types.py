"""The types that run records are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Record = dict[str, Any]


Correct = Mapping[str, npt.NDArray[np.bool_]]
"""By id of a case: bool of shape (n_test,), which test examples were right; (draws, n_test) for several draws."""
