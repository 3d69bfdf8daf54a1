import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privacy.wire.codec import Reader, Writer
from privacy.wire.reasons import Reason, RefusedMessage


def test_every_field_has_its_known_bytes():
    writer = Writer().u8(1).u16(2).u32(3).u64(4).f64(1.0).fixed(b"ab", 2).text("é", 2)
    writer.vector(np.array([1.0], dtype=np.float32))
    expected = "01 0002 00000003 0000000000000004 3ff0000000000000 6162 0002c3a9 00000001 0000803f"
    assert writer.done() == bytes.fromhex(expected)


@given(
    st.integers(0, 2**8 - 1),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    hnp.arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32, allow_nan=False)),
)
def test_what_is_written_is_read(byte, short, word, long, number, text, vector):
    writer = Writer().u8(byte).u16(short).u32(word).u64(long).f64(number).text(text, 80)
    reader = Reader(writer.vector(vector).done())
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64()) == (byte, short, word, long)
    assert reader.f64() == number
    assert reader.text(80) == text
    np.testing.assert_array_equal(reader.vector(), vector)
    reader.end()


@pytest.mark.parametrize(
    "write",
    [
        lambda w: w.u8(256),
        lambda w: w.u8(-1),
        lambda w: w.u16(2**16),
        lambda w: w.u32(2**32),
        lambda w: w.u64(2**64),
        lambda w: w.u32(1.5),
        lambda w: w.f64(math.nan),
        lambda w: w.fixed(b"abc", 2),
        lambda w: w.text("abc", 2),
    ],
)
def test_a_value_that_does_not_fit_is_refused_not_cut(write):
    with pytest.raises(RefusedMessage) as refused:
        write(Writer())
    assert refused.value.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    ("data", "read"),
    [
        ("", lambda r: r.u8()),
        ("00", lambda r: r.u16()),
        ("000000", lambda r: r.u32()),
        ("00000000000000", lambda r: r.u64()),
        ("7ff8000000000000", lambda r: r.f64()),  # NaN
        ("61", lambda r: r.fixed(2)),
        ("000361", lambda r: r.text(9)),  # longer than what follows
        ("0003616161", lambda r: r.text(2)),  # longer than allowed
        ("0002c328", lambda r: r.text(9)),  # not UTF-8
        ("0002c080", lambda r: r.text(9)),  # overlong UTF-8
        ("0003eda080", lambda r: r.text(9)),  # a surrogate
        ("0000000100", lambda r: r.vector()),
        ("ffffffff00000000", lambda r: r.vector()),  # a length that memory would not hold
        ("00", lambda r: r.end()),  # trailing
    ],
)
def test_corrupt_fields_are_refused(data, read):
    with pytest.raises(RefusedMessage) as refused:
        read(Reader(bytes.fromhex(data)))
    assert refused.value.reason is Reason.MALFORMED


def test_a_read_vector_cannot_be_changed():
    data = Writer().vector(np.ones(3, dtype=np.float32)).done()
    vector = Reader(data).vector()
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 2.0
