"""Names for arrays, by what their numbers mean."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Images: TypeAlias = NDArray[np.uint8]  # [n, h, w, 3]
Singles: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Features: TypeAlias = NDArray[np.float32]  # [n, E], a row for each image or text
Groups: TypeAlias = NDArray[np.int64]  # [n], the group (patient, caption) of each row
