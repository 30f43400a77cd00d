"""What Parquet's pages promise is known before Arrow unfolds them."""

import io

import numpy as np
import pytest
from examining import SAMPLES

from last.data.formats.parquet_pages import largest_pages

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def written(table, **options) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content, **options)
    return content.getvalue()


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_promises_are_those_of_arrow(compression, version):
    rows = 10_000  # in one page
    columns = {"x": np.random.default_rng(0).normal(size=rows), "clip": [f"clip{i // 100}" for i in range(rows)]}
    content = written(pa.table(columns), compression=compression, data_page_version=version, use_dictionary=["clip"])
    metadata = pq.ParquetFile(io.BytesIO(content)).metadata
    # Doubles; and a dictionary of 100 texts, each with 4 bytes of length and 5 or 6 letters.
    texts = 10 * (4 + 5) + 90 * (4 + 6)
    assert largest_pages(memoryview(content), metadata) == pytest.approx(8 * rows + texts, abs=20)


def with_page_size(content: bytes, size: int) -> bytes:
    """The first page promises another size, written in as many bytes as are taken from the page's end."""
    metadata = pq.ParquetFile(io.BytesIO(content)).metadata
    end = 4 + metadata.row_group(0).column(0).total_compressed_size
    at = stop = 7  # behind the magic number, and the tag and value of the page's type, and a tag
    while content[stop] > 127:
        stop += 1
    digits = bytes((2 * size >> shift & 127) | 128 for shift in range(0, 28, 7)) + bytes([2 * size >> 28])
    longer = len(digits) - (stop + 1 - at)
    assert content[stop + 1] == 0x15 and content[stop + 2] < 128
    packed = bytes([content[stop + 1], content[stop + 2] - 2 * longer])
    return content[:at] + digits + packed + content[stop + 3 : end - longer] + content[end:]


def test_a_page_that_promises_gigabytes_is_refused(tmp_path, refused):
    path = SAMPLES["parquet"](tmp_path, np.random.default_rng(0))
    content = written(pq.read_table(path), compression="snappy", use_dictionary=False)
    path.write_bytes(with_page_size(content, 2**31 - 1))
    assert "promises pages of 2,147,48" in refused("parquet", path)


def test_a_long_text_in_every_row_is_not_repeated_in_memory(tmp_path, refused):
    path = SAMPLES["parquet"](tmp_path, np.random.default_rng(0))
    table = pq.read_table(path)
    rows = 5_000  # 4.5 GB
    columns = {
        name: pa.array([column[0].as_py()] * rows, column.type)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    columns["clip"] = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array(["x" * 900_000]))
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 10_000
    refused("parquet", path)
