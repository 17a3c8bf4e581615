"""The classification extension."""

import numpy as np
import pytest

from tritium.compat.v2.classification import classify
from tritium.compat.v2.elements import split_bytes
from tritium.compat.v2.refusal import Refusal


def classes(array, **how):
    shape, data = classify(how.pop("datatype", "FP32"), array.shape, array.tobytes(), **how)
    return shape, [element.decode() for element in split_bytes(data)]


def test_the_greatest_come_first_with_their_labels():
    """value:index:label, without the label where there is none."""
    scores = np.array([2, 10, 4, 6], "<f4")
    found = classes(scores, classes=3, batches=False, labels=("zero", "one"))
    assert found == ((3,), ["10.000000:1:one", "6.000000:3", "4.000000:2"])


def test_each_element_of_a_batch_has_its_own():
    """The batch dimension stays."""
    scores = np.array([[1, 2], [4, 3]], "<i4")
    assert classes(scores, datatype="INT32", classes=1, batches=True, labels=()) == ((2, 1), ["2:1", "4:0"])


def test_more_classes_than_elements_are_all_of_them():
    """Asking for ten of two gives two."""
    assert classes(np.array([1, 2], "<u1"), datatype="UINT8", classes=10, batches=False, labels=())[0] == (2,)


def test_equal_scores_keep_their_order():
    """A tie goes to the lower index."""
    assert classes(np.array([1, 1, 1], "<f8"), datatype="FP64", classes=2, batches=False, labels=())[1] == [
        "1.000000:0",
        "1.000000:1",
    ]


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL", "FP16"])
def test_what_is_not_a_number_has_no_classes(datatype):
    """A real Triton dies of it; here it is refused."""
    with pytest.raises(Refusal, match=f"class result not available for output due to unsupported type '{datatype}'"):
        classify(datatype, (1,), b"\1\0\0\0a", classes=1, batches=False, labels=())


def test_an_output_too_large_to_sort_has_no_classes():
    """Triton's limit is a million elements."""
    with pytest.raises(Refusal, match="classification output tensor too large"):
        classify("UINT8", (1_000_001,), bytes(1_000_001), classes=1, batches=False, labels=())
