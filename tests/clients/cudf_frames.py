"""cuDF (RAPIDS): frames on the device as pandas has them: arithmetic, filters, sorting, groups, joins, text, dates, windows, reshaping, CSV and Parquet."""

import io
import os
import tempfile

import cudf
import numpy
import pandas
from common import close, passed, true

source = numpy.random.default_rng(9)
COUNT = 4000
plain = pandas.DataFrame(
    {
        "key": source.integers(0, 20, COUNT),
        "value": source.integers(-1000, 1000, COUNT) / 8,
        "weight": source.integers(0, 1000, COUNT).astype("int32"),
        "name": [f"name {number % 37}" for number in range(COUNT)],
        "when": pandas.Timestamp("2024-01-01") + pandas.to_timedelta(source.integers(0, 10**6, COUNT), unit="s"),
    }
)
plain.loc[::17, "value"] = numpy.nan


def comparable(value):
    """Numbers, with what is missing as one that occurs nowhere, or text."""
    value = value.to_pandas() if hasattr(value, "to_pandas") else value
    value = numpy.asarray(value)
    if value.dtype.kind in "OUST":
        return numpy.asarray([str(each) for each in value])
    return numpy.nan_to_num(value.astype(numpy.float64), nan=-99999.0)


def same(name, function, **tolerance):
    """The function of the device's frame gives what that of pandas' gives, in the order of both."""
    found, expected = comparable(function(frame)), comparable(function(plain))
    if found.dtype.kind == "U":
        true(name, found.shape == expected.shape and (found == expected).all(), *found[:3].tolist())
    else:
        close(name, found, expected, **tolerance)


frame = cudf.DataFrame(plain)
ROUNDED = {"rtol": 1e-12, "atol": 1e-12}
same("there and back", lambda each: each[["key", "value", "weight"]])
same("arithmetic", lambda each: each.value * 2 + each.weight // 3)
same("a filter", lambda each: each[(each.weight > 500) & each.value.notna()].value)
same("sums", lambda each: [each.value.sum(), each.weight.max(), each.key.min(), each.value.count()])
same("means", lambda each: [each.value.mean(), each.value.std(), each.value.quantile(0.3)], **ROUNDED)
same("sorted", lambda each: each.sort_values(["key", "weight", "value"])[["key", "weight"]])
same("groups", lambda each: each.groupby("key").agg({"value": "sum", "weight": "max"}).sort_index(), **ROUNDED)
same("groups of text", lambda each: each.groupby("name").weight.mean().sort_index(), **ROUNDED)
most = lambda each: each.groupby("key").weight.max().reset_index()
same("a join", lambda each: each.merge(most(each), on="key").sort_values(["key", "weight_x", "value"])[["key", "weight_x", "weight_y"]])
same("text", lambda each: each.name.str.upper().str.replace("NAME ", "n"))
same("lengths of text", lambda each: each.name.str.len())
same("unique", lambda each: each.name.drop_duplicates().sort_values())
same("windows", lambda each: each.weight.rolling(5).mean(), **ROUNDED)
same("sums so far", lambda each: each.weight.cumsum())
same("dates", lambda each: each.when.dt.hour * 100 + each.when.dt.day)
same("counts", lambda each: each.key.value_counts().sort_index())
same("melted", lambda each: each[["key", "weight"]].astype("int64").head(50).melt().value)
same("holes filled", lambda each: each.value.fillna(0).clip(-50, 50))

text = plain.drop(columns="when").to_csv(index=False)
read = cudf.read_csv(io.StringIO(text)).to_pandas()
close("CSV", read.weight.to_numpy(), plain.weight.to_numpy())
true("its text", read.name.tolist() == plain.name.tolist())
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "frame.parquet")
    for compression in ("snappy", None):
        plain.to_parquet(path, compression=compression)
        read = cudf.read_parquet(path).to_pandas()
        close(f"Parquet, {compression}", read.key.to_numpy(), plain.key.to_numpy())
        true("its text", read.name.tolist() == plain.name.tolist())
    frame.to_parquet(path)
    close("Parquet written", pandas.read_parquet(path).weight.to_numpy(), plain.weight.to_numpy())
passed("cudf")
