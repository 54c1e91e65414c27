"""What holds for every file of data/sources: its examples, its schema, and that no person passes the door."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError

from behavior_llava.core import discover, schema
from behavior_llava.data import sources

FOUND = discover.find("data.sources", "SOURCE")
PERSON = re.compile(r"[\w.+-]+@[\w-]+\.\w|@\w\w|(?:^|\W)u/\w\w|https?://")


def test_every_file_declares_a_source():
    files = {path.stem for path in Path(sources.__path__[0]).glob("*.py")} - {"__init__"}
    assert set(FOUND) == files
    assert {"reddit", "youtube", "table", "salicon", "memorability"} <= files


@pytest.mark.parametrize("name", FOUND)
def test_examples(name):
    source = FOUND[name]
    posts = faults = 0
    for raw, expected in source.examples:
        parsed = source.parse(raw)
        if isinstance(expected, str):
            assert isinstance(parsed, schema.Fault), raw
            assert parsed.reason == expected
            faults += 1
        else:
            assert parsed == expected
            posts += 1
    assert posts, "an example that gives a Post"
    assert faults, "an example that gives a Fault"


@pytest.mark.parametrize("name", FOUND)
def test_posts_fit_the_tables_and_come_back(name):
    for _, post in FOUND[name].examples:
        if isinstance(post, schema.Post):
            rows, comments = [schema.post_row(post)], schema.comment_rows(post)
            pa.Table.from_pylist(rows, schema=schema.POSTS).validate(full=True)
            pa.Table.from_pylist(comments, schema=schema.COMMENTS).validate(full=True)
            assert schema.post_from_row(rows[0], comments) == post
            assert post.source in FOUND  # the sandbox writes the others' formats and reads them back


@pytest.mark.parametrize("name", FOUND)
def test_no_person_in_a_post(name):
    for _, post in FOUND[name].examples:
        if isinstance(post, schema.Post):
            texts = [
                post.title,
                post.description,
                post.transcript,
                *(comment.text for comment in post.comments),
            ]
            assert not [text for text in texts if text and PERSON.search(text)]
            hashes = [post.author_hash, *(comment.author_hash for comment in post.comments)]
            assert all(value is None or re.fullmatch(r"u_[0-9a-f]{10}", value) for value in hashes)


@pytest.mark.parametrize("name", FOUND)
def test_config_is_frozen_and_refuses_unknown_keys(name):
    config = FOUND[name].config
    assert config.model_config["frozen"] is True
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        config.model_validate({"no_such_setting": 1})
