"""Headers of GGUF files are read as the format's own package reads them, and damaged ones end in a typed error."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.budget import budget
from tests.fakes.found_models import write_gguf
from workbench.errors import ModelFormatError
from workbench.gguf_files import GgufArray, GgufHeader, bounded_file, part_paths, read_gguf_header
from workbench.gguf_files.tensor_types import FTYPES, TENSOR_TYPES, precision_name

KINDS = [kind for kind in gguf.GGML_QUANT_SIZES if kind.name not in ("F64", "I8", "I16", "I32", "I64")]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
VALUES = st.one_of(
    st.tuples(st.just("add_uint32"), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("add_uint64"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("add_int8"), st.integers(-(2**7), 2**7 - 1)),
    st.tuples(st.just("add_int32"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("add_float64"), st.floats(allow_nan=False)),
    st.tuples(st.just("add_bool"), st.booleans()),
    st.tuples(st.just("add_string"), TEXTS.filter(bool)),
    st.tuples(st.just("add_array"), st.lists(TEXTS.filter(bool), min_size=1, max_size=200)),
    st.tuples(st.just("add_array"), st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=200)),
)
TENSORS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2])), max_size=5
)


def write(path: Path, values: dict[str, tuple[str, Any]], tensors: list[tuple[Any, int, int, int]], align: int) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(align)
    for number, (method, value) in enumerate(values.values()):
        getattr(writer, method)(f"key.{number}", value)
    for number, (kind, rows, blocks, planes) in enumerate(tensors):
        block, nbytes = gguf.GGML_QUANT_SIZES[kind]
        plain = {"F32": np.float32, "F16": np.float16}.get(kind.name)
        if plain:
            writer.add_tensor(f"t{number}", np.zeros((planes, rows, block * blocks), plain))
        else:
            data = np.zeros((planes, rows, nbytes * blocks), np.uint8)
            writer.add_tensor(f"t{number}", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def check_against_the_package(path: Path) -> None:
    """Compare a header with what gguf's reader, which is another program, makes of the file."""
    header, judge = read_gguf_header(path), gguf.GGUFReader(path)
    everything = read_gguf_header(path, keeps=list(header.metadata))
    fields = {name: field for name, field in judge.fields.items() if not name.startswith("GGUF.")}
    assert list(header.metadata) == list(fields)
    for name, field in fields.items():
        value, expected = header.metadata[name], field.contents()
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            assert value == GgufArray(len(field.data)), name
            assert repr(everything.elements(name)) == repr(tuple(expected)), name
        else:
            assert repr(everything.metadata[name]) == repr(expected), name
            assert value == expected or (value is None and len(str(expected).encode()) > 4096), name
    theirs = [
        (tensor.name, tuple(map(int, tensor.shape)), tensor.tensor_type.name, int(tensor.n_bytes), tensor.data_offset)
        for tensor in judge.tensors
    ]
    ours = [(one.name, one.shape, one.type, one.nbytes, one.offset + header.data_start) for one in header.tensors]
    assert ours == theirs
    assert read_gguf_header(path, quick=True) == header
    assert sum(header.weights_by_type.values()) == sum(int(tensor.n_elements) for tensor in judge.tensors)


@given(st.dictionaries(st.integers(), VALUES, max_size=8), TENSORS, st.sampled_from([8, 32, 256]))
def test_a_header_is_read_as_the_package_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    values: dict[str, tuple[str, Any]],
    tensors: list[tuple[Any, int, int, int]],
    align: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "drawn.gguf"
    check_against_the_package(write(path, values, tensors, align))


@given(st.data())
def test_long_vocabularies_are_skipped_exactly(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """With strings that are empty, longer than a byte counts, or full of zeros among thousands of short ones."""
    source = random.Random(data.draw(st.integers(0, 2**32)))
    odd = data.draw(st.lists(st.tuples(st.integers(0, 9_999), st.sampled_from([0, 255, 256, 70_000])), max_size=5))
    strings = [bytes(source.choices(range(1, 256), k=source.randint(1, 12))) for _ in range(10_000)]
    for place, length in odd:
        strings[place] = bytes(source.choices(range(3), k=length))
    body = b"".join(struct.pack("<Q", len(string)) + string for string in strings)
    path = tmp_path_factory.getbasetemp() / "strings"
    path.write_bytes(b"\1" * 7 + body + b"end")
    with bounded_file.BoundedFile(path) as file:
        file.skip(7, "a beginning")
        file.skip_strings(len(strings), "strings")
        assert file.bytes(3, "the end") == b"end"


def test_strings_are_counted_to_the_same_place_as_they_are_followed(tmp_path: Path) -> None:
    """In vocabularies of any size and alignment; one with a string that cannot be counted is followed."""
    source, path = random.Random(7), tmp_path / "vocabulary.gguf"
    for number in range(budget(300)):
        count = source.choice([1, 64, 65, 66, 1000, 40_000 if number % 50 == 0 else 3])
        strings = [bytes(source.choices(range(1, 256), k=source.choice([1, 2, 3, 7, 255]))) for _ in range(count)]
        for odd in source.choice([(), (), (0,), (256,), (70_000,), (0, 0, 0), (8, 4)]):
            strings[source.randrange(count)] = bytes(odd)
        key = text(b"k" * source.randint(1, 4))
        value = key + U32(9) + U32(8) + U64(count) + b"".join(map(text, strings))
        after = text(b"after") + U32(4) + U32(number)
        path.write_bytes(header(values=2) + value + after)
        read = read_gguf_header(path, quick=True)
        assert read == read_gguf_header(path)
        assert list(read.metadata.values()) == [GgufArray(count), number]


def test_the_tables_of_types_are_the_packages() -> None:
    sizes = {int(kind): (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {number: tuple(kind) for number, kind in TENSOR_TYPES.items()} == sizes
    names = {int(kind): kind.name.partition("_")[2] for kind in gguf.LlamaFileType if kind.name != "GUESSED"}
    assert names == FTYPES


@pytest.mark.parametrize(
    "file_type, weights, name",
    [
        (15, {"Q4_K": 100, "Q6_K": 20, "F32": 1}, "Q4_K_M"),
        (15 | 1024, {"Q4_K": 100}, "Q4_K_M"),
        (15, {"Q5_0": 100, "Q4_K": 1}, "Q4_K_M"),
        (15, {"F16": 100, "F32": 1}, "F16"),
        (1, {"Q8_0": 100, "F32": 1}, "Q8_0"),
        (None, {"BF16": 100, "F32": 1}, "BF16"),
        ("15", {"Q4_0": 1}, "Q4_0"),
        (999, {"Q4_0": 1}, "Q4_0"),
        (15, {}, None),
    ],
)
def test_a_precision_has_the_name_that_people_use_unless_the_tensors_differ(
    file_type: object, weights: dict[str, int], name: str | None
) -> None:
    assert precision_name(file_type, weights) == name


# --------------------------------------------------------------------------------------------------- hostile files

U32, U64 = struct.Struct("<I").pack, struct.Struct("<Q").pack


def text(value: bytes) -> bytes:
    return U64(len(value)) + value


def header(*, tensors: int = 0, values: int = 0, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + U32(version) + U64(tensors) + U64(values)


ONE = header(values=1) + text(b"key")
TENSOR = header(tensors=1) + text(b"t")
HOSTILE = {
    "empty": b"",
    "short": b"GG",
    "magic": header(magic=b"GGML"),
    "version 1": header(version=1),
    "big-endian": b"GGUF" + b"\0\0\0\3" + bytes(16),
    "too many values": header(values=2**63),
    "too many tensors": header(tensors=2**64 - 1),
    "values missing": header(values=9999),
    "endless key": header(values=1) + U64(2**63) + b"x",
    "long key": header(values=1) + U64(10**6) + b"x" * 10**6,
    "key not UTF-8": header(values=1) + text(b"\xff\xfe") + U32(4) + U32(1),
    "endless text": ONE + U32(8) + U64(2**63),
    "text of all bytes": ONE + U32(8) + U64(2**64 - 1),
    "unknown type": ONE + U32(13),
    "endless array": ONE + U32(9) + U32(4) + U64(2**63),
    "array that overflows": ONE + U32(9) + U32(12) + U64(2**61),
    "endless strings": ONE + U32(9) + U32(8) + U64(2**40),
    "string in an array": ONE + U32(9) + U32(8) + U64(100) + U64(2**63) + bytes(1000),
    "arrays in an array": ONE + U32(9) + U32(9) + U64(1) + (U32(9) + U64(1)) * 1000,
    "unknown array": ONE + U32(9) + U32(99) + U64(1),
    "key twice": header(values=2) + (text(b"key") + U32(7) + b"\1") * 2,
    "alignment 0": header(values=1) + text(b"general.alignment") + U32(4) + U32(0),
    "alignment 3": header(values=1) + text(b"general.alignment") + U32(4) + U32(3),
    "alignment as text": header(values=1) + text(b"general.alignment") + U32(8) + text(b"32"),
    "dimensions": TENSOR + U32(2**31) + bytes(100),
    "five dimensions": TENSOR + U32(5) + bytes(100),
    "shape that overflows": TENSOR + U32(4) + U64(2**32) * 4 + U32(0) + U64(0),
    "no weights": TENSOR + U32(1) + U64(0) + U32(0) + U64(0),
    "partial block": TENSOR + U32(1) + U64(31) + U32(2) + U64(0) + bytes(1000),
    "unknown tensor type": TENSOR + U32(1) + U64(32) + U32(4) + U64(0) + bytes(1000),
    "offset": TENSOR + U32(1) + U64(32) + U32(0) + U64(2**64 - 32) + bytes(1000),
    "odd offset": TENSOR + U32(1) + U64(32) + U32(0) + U64(1) + bytes(1000),
    "tensor twice": header(tensors=2) + (text(b"t") + U32(1) + U64(1) + U32(0) + U64(0)) * 2 + bytes(100),
    "cut off": TENSOR + U32(1) + U64(32) + U32(0) + U64(0) + bytes(100),
}


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in HOSTILE.items()])
def test_a_hostile_header_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    for quick in (False, True):
        with pytest.raises(ModelFormatError, match=r"hostile\.gguf (is|has|cannot)"):
            read_gguf_header(path, quick=quick)


def test_a_header_that_never_ends_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """In a file of a terabyte, without data on the disk, which any length in the header fits into."""
    for content in (ONE + U32(9) + U32(0) + U64(10**11), ONE + U32(8) + U64(10**11), header(values=9999, tensors=9999)):
        path = tmp_path / "sparse.gguf"
        with path.open("wb") as file:
            file.write(content)
            file.truncate(10**12)
        with pytest.raises(ModelFormatError, match=r"at most 67,108,864|twice"):
            read_gguf_header(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.gguf"):
        with pytest.raises(ModelFormatError, match="cannot be read"):
            read_gguf_header(path)


def mutations(valid: bytes, end: int) -> list[Callable[[random.Random], bytes]]:
    """Ways to damage the first ``end`` bytes of a file."""

    def replaced(source: random.Random, width: int, value: int) -> bytes:
        place = source.randrange(end - width)
        return valid[:place] + value.to_bytes(width, "little") + valid[place + width :]

    extremes = (0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
    return [
        lambda source: replaced(source, 1, source.randrange(256)),
        lambda source: replaced(source, 8, source.choice(extremes)),
        lambda source: replaced(source, 4, source.choice((0, 1, 5, 8, 9, 255, 2**31, 2**32 - 1))),
        lambda source: valid[: source.randrange(end)],
        lambda source: (place := source.randrange(end), valid[:place] + valid[place + source.randrange(1, 64) :])[1],
        lambda source: (place := source.randrange(end), valid[:place] + source.randbytes(8) + valid[place:])[1],
    ]


def test_damaged_headers_end_in_a_typed_error_or_are_read_within_bounds(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "valid.gguf", vocabulary=100).read_bytes()
    ways = mutations(whole, read_gguf_header(tmp_path / "valid.gguf").data_start)
    source, path = random.Random(20), tmp_path / "damaged.gguf"
    refused = 0
    tracemalloc.start()
    try:
        for number in range(budget(5000)):
            path.write_bytes(source.choice(ways)(source))
            try:
                read = read_gguf_header(path, quick=number % 4 == 0)
                read_gguf_header(path, keeps=["tokenizer.ggml.tokens", "tokenizer.chat_template"])
            except ModelFormatError:
                refused += 1
                continue
            assert isinstance(read, GgufHeader)
            assert all(read.data_start + one.offset + one.nbytes <= path.stat().st_size for one in read.tensors)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused > budget(5000) // 3
    assert peak < 100e6


@pytest.mark.parametrize(
    "name, parts",
    [
        ("a.gguf", ["a.gguf"]),
        ("a-00002-of-00003.gguf", ["a-00001-of-00003.gguf", "a-00002-of-00003.gguf", "a-00003-of-00003.gguf"]),
        ("a-00004-of-00003.gguf", ["a-00004-of-00003.gguf"]),
        ("a-00000-of-00000.gguf", ["a-00000-of-00000.gguf"]),
        ("a-00001-of-99999.gguf", ["a-00001-of-99999.gguf"]),
        ("a-1-of-3.gguf", ["a-1-of-3.gguf"]),
    ],
)
def test_the_parts_of_a_split_model_are_named_by_their_numbers(name: str, parts: list[str]) -> None:
    assert [path.name for path in part_paths(Path("/models", name))] == parts
