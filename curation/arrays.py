"""Names of numpy array types by element type. The docstring of each user gives the shape."""

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "Bytes", "Float32s", "Floats", "Int8s", "Int16s", "Int32s", "Ints", "Pixels", "UInt64s"]

Ints = npt.NDArray[np.int64]  # ids, counts, row numbers
Int32s = npt.NDArray[np.int32]  # row numbers where memory counts
Int8s = npt.NDArray[np.int8]  # small codes
Int16s = npt.NDArray[np.int16]
UInt64s = npt.NDArray[np.uint64]  # hashes
Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]  # embeddings, images in work
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]  # bytes or packed bits
Pixels = npt.NDArray[np.uint8]  # decoded images, 0 to 255
