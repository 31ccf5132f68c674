"""Python's int objects as numbers.

Checked by the caller: `values` is a tuple as long as `numbers`.
"""

from vecstore.kernels.machine import kernel
from vecstore.kernels.objects import int_of, tuple_item

__all__ = ["read_ints"]


@kernel("object, object, object, i64[:] -> i64")
def read_ints(values, true, false, numbers):
    """Write the ints in a tuple to `numbers` (n,); return how many came before the first that is none.

    A bool, of which `true` and `false` are the two, is none; nor is one that takes more than 64 bits.
    """
    for i in range(numbers.shape[0]):
        value = tuple_item(values, i)
        number, sound = int_of(value)
        if not sound or value == true or value == false:  # noqa: SIM109 - no tuples in kernels
            return i
        numbers[i] = number
    return numbers.shape[0]
