"""Array namespaces: NumPy for host arrays, CuPy for arrays on a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MinigradError, at_user_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol, TypeGuard

    from ..primitive import ArrayNamespace

    class DeviceArray(Protocol):
        """An array on a GPU: CuPy's, or another one that CuPy reads without a copy."""

        @property
        def __cuda_array_interface__(self) -> Mapping[str, Any]: ...


def is_on_device(x: object) -> TypeGuard[DeviceArray]:
    """Return whether `x` is an array on a GPU."""
    return not isinstance(x, (np.ndarray, type)) and hasattr(x, "__cuda_array_interface__")


def on_device(leaves: Iterable[object]) -> bool:
    """Return whether any of `leaves` is an array on a GPU."""
    return any(map(is_on_device, leaves))


def namespace(leaves: Iterable[object]) -> ArrayNamespace:
    """Return the namespace that computes on `leaves`: NumPy, or CuPy's where one of them is on a GPU.

    Raises
    ------
    MinigradError
        If CuPy, or the package that makes it a standard namespace, is not installed.
    """
    if not on_device(leaves):
        return np
    try:
        import array_api_compat.cupy
    except ImportError as error:
        raise MinigradError(at_user_line(f"arrays on a GPU need {error.name}: pip install 'minigrad[cuda]'")) from None
    module: ArrayNamespace = array_api_compat.cupy
    return module


def own(values: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """Return values as the caller's own arrays: nothing in them is shared, with the inputs or each other.

    Arrays of NumPy without axes become scalars, as NumPy's own functions give them.
    """
    taken = {id(a) for a in arrays}
    out = []
    for v in values:
        if isinstance(v, np.ndarray) and not v.ndim:
            v = v[()]
        elif not isinstance(v, np.generic) and (
                v.base is not None or id(v) in taken or not getattr(v.flags, "writeable", True)):
            v = v.copy()
        taken.add(id(v))
        out.append(v)
    return out
