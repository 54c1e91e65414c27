"""What holds for every file of data/filters: examples, measuring only adds, null drops."""

from pathlib import Path

import daft
import pyarrow as pa
import pytest

from behavior_llava.core import discover, schema
from behavior_llava.data import filters, funnel

FOUND = discover.find("data.filters", "FILTER")


def tables(posts, comments):
    """Example rows, which name only what matters, as whole tables."""
    return (
        daft.from_arrow(pa.Table.from_pylist(list(posts), schema=schema.POSTS)),
        daft.from_arrow(pa.Table.from_pylist(list(comments), schema=schema.COMMENTS)),
    )


def test_every_file_declares_a_filter():
    files = {path.stem for path in Path(filters.__path__[0]).glob("*.py")} - {"__init__"}
    assert set(FOUND) == files
    assert len(files) >= 12


@pytest.mark.parametrize("name", FOUND)
def test_examples(name):
    declared = FOUND[name]
    params = declared.params()
    kept_all = dropped_all = 0
    for posts, comments, expected in declared.examples:
        post_table, comment_table = tables(posts, comments)
        table = post_table if declared.table == "posts" else comment_table
        measured = declared.measure(post_table, comment_table, params)
        kept, dropped = funnel._parted(measured, declared.keep(params))
        assert sorted(kept.to_pydict()["id"]) == sorted(expected)
        assert kept.count_rows() + dropped.count_rows() == table.count_rows()
        kept_all, dropped_all = kept_all + kept.count_rows(), dropped_all + dropped.count_rows()
    assert kept_all, "an example that is kept"
    assert dropped_all, "an example that is dropped"


@pytest.mark.parametrize("name", FOUND)
def test_measuring_adds_columns_and_changes_nothing(name):
    declared = FOUND[name]
    for posts, comments, _ in declared.examples:
        post_table, comment_table = tables(posts, comments)
        table = post_table if declared.table == "posts" else comment_table
        measured = declared.measure(post_table, comment_table, declared.params())
        added = set(measured.column_names) - set(table.column_names)
        assert added
        assert not [column for column in added if column.startswith("_")]
        assert declared.pools is None or declared.pools in added
        before, after = (
            rows.sort("id").select(*table.column_names).to_pydict() for rows in (table, measured)
        )
        assert before == after


@pytest.mark.parametrize("name", FOUND)
def test_a_null_measure_drops(name):
    declared = FOUND[name]
    posts, comments, _ = declared.examples[0]
    measured = declared.measure(*tables(posts, comments), declared.params())
    kept, dropped = funnel._parted(measured, daft.lit(None).cast(daft.DataType.bool()))
    assert kept.count_rows() == 0
    assert dropped.count_rows() == measured.count_rows() > 0


@pytest.mark.parametrize("name", FOUND)
def test_empty_tables_stay_empty(name):
    declared = FOUND[name]
    measured = declared.measure(*tables([], []), declared.params())
    kept, dropped = funnel._parted(measured, declared.keep(declared.params()))
    assert (kept.count_rows(), dropped.count_rows()) == (0, 0)


@pytest.mark.parametrize("name", FOUND)
def test_params_are_frozen_and_refuse_unknown_keys(name):
    assert FOUND[name].params.model_config == {"frozen": True, "extra": "forbid"}
