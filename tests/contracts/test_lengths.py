"""How long a row will be is known before its media are decoded, whatever the architecture."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from tokenizers import Tokenizer

from behavior_llava.core import media as core_media
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import sha256
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto
from behavior_llava.training.batching import Collator, gate

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Media]:
    """More sizes than a formula is tried on, and more than one file of some."""
    folder, random_sizes = tmp_path_factory.mktemp("pictures"), random.Random(0)
    sizes = [(random_sizes.randint(8, 300), random_sizes.randint(8, 300)) for _ in range(3 * auto._AGREED)]
    sizes += [(160, 40), (30, 170), (1, 1), (200, 200), (200, 200), *sizes[:3]]
    found = []
    for number, (width, height) in enumerate(sizes):
        path = folder / f"{number}.jpg"
        exif = Image.Exif()
        exif[0x0112] = random_sizes.choice([1, 3, 6, 8])  # as a telephone was held
        Image.new("RGB", (width, height), (number, 90, 30)).save(path, exif=exif)
        found.append(Media(str(path), "image", sha256(path)))
    return found


@pytest.fixture(scope="module")
def rows(pictures: list[Media], media: dict[str, Media]) -> list[Example]:
    clips = [
        replace(media["clip"], times_s=times)
        for times in ((0.5,), (0.25, 1.75), (0.0, 0.5, 1.75), (0.1, 1.0, 1.3, 1.8), (0.5, 1.5))
    ]
    return [
        Example(str(number), "describe " * (number % 3 + 1), "a red sky, " * (number % 2 + 1), item)
        for number, item in enumerate([*pictures, *clips, None])
    ]


def test_a_rows_length_is_known_before(
    model: VisionLanguageModel, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = auto.VisionLanguageModel(model.network, model.processor, model.store)  # nothing remembered
    expected = {row.id: int(model.inputs([row], supervise=True)["attention_mask"].sum()) for row in rows}
    monkeypatch.setattr(core_media, "_on_white", lambda _: pytest.fail("pixels were read"))
    counts = {row.id: model.num_tokens(row) for row in rows}
    assert {id: sum(count) for id, count in counts.items()} == expected
    for row in rows:
        words, of_media = counts[row.id]
        assert (of_media > 0) == (row.media is not None)
        assert 0 < words < expected[row.id] or row.media is None
        # what is left without the media, but for the marks around them
        bare = len(model.text_ids(replace(row, media=None)))
        assert bare <= words <= bare + 4 * max(1, model.num_images(row))


def test_a_question_is_counted_without_an_answer(model: VisionLanguageModel, rows: list[Example]) -> None:
    for row in (rows[0], rows[-2], rows[-1]):
        asked = replace(row, completion=None)
        expected = int(model.inputs([asked], supervise=False)["attention_mask"].sum())
        assert sum(model.num_tokens(asked)) == expected < sum(model.num_tokens(row))


def test_conversations_are_counted_whole(tiny: VisionLanguageModel, rows: list[Example]) -> None:
    earlier = (("what do viewers feel", "joy"), ("describe", "a happy sky"))
    row = replace(rows[0], earlier=earlier)
    assert sum(tiny.num_tokens(row)) == tiny.inputs([row], supervise=True)["input_ids"].shape[1]
    assert tiny.num_tokens(row)[1] == tiny.num_tokens(rows[0])[1]


def test_a_size_is_counted_once(
    model: VisionLanguageModel, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = auto.VisionLanguageModel(model.network, model.processor, model.store)
    calls, original = 0, auto.VisionLanguageModel._processed

    def counted(self: VisionLanguageModel, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(self, *given)

    monkeypatch.setattr(auto.VisionLanguageModel, "_processed", counted)
    for row in rows:
        model.num_tokens(row)
    first = calls
    assert 0 < first < len({row.media for row in rows})
    for row in rows:
        model.num_tokens(replace(row, prompt="another"))
    assert calls == first


def test_a_formula_that_is_wrong_is_not_taken(
    model: VisionLanguageModel, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = auto.VisionLanguageModel(model.network, model.processor, model.store)
    expected = [fresh.num_tokens(row) for row in rows]
    fresh = auto.VisionLanguageModel(model.network, model.processor, model.store)
    monkeypatch.setattr(auto.VisionLanguageModel, "_formula", lambda *_: (7, None))
    assert [fresh.num_tokens(row) for row in rows] == expected


def test_a_row_that_is_too_long_is_refused_with_its_parts(
    model: VisionLanguageModel, rows: list[Example]
) -> None:
    counts = {row.id: model.num_tokens(row) for row in rows}
    longest = max(rows, key=lambda row: sum(counts[row.id]))
    words, of_media = counts[longest.id]
    gate(model, rows, max_tokens=words + of_media)
    told = f"has {words + of_media} tokens \\({of_media} of media, {words} of text\\) where"
    with pytest.raises(UserError, match=told) as caught:
        gate(model, rows, max_tokens=words + of_media - 1)
    assert caught.value.where == longest.id
    assert "media are never cut" in str(caught.value)


def test_a_row_whose_media_are_gone_is_refused(
    model: VisionLanguageModel, rows: list[Example], tmp_path: Path
) -> None:
    gone = replace(rows[0], id="gone", media=Media(str(tmp_path / "gone.png"), "image", "ab" * 32))
    with pytest.raises(UserError, match=r"media_missing") as caught:
        gate(model, [*rows, gone], max_tokens=10_000)
    assert caught.value.where == "gone"


def test_nothing_cuts_a_row(model: VisionLanguageModel, rows: list[Example]) -> None:
    """Not even a tokenizer that was saved with a limit: the row's media stand before its words."""
    tokenizer = model.processor.tokenizer
    kept = tokenizer.model_max_length
    backend: Tokenizer = tokenizer.backend_tokenizer
    long = replace(rows[0], prompt="what do viewers feel " * 50, completion="joy and a good day " * 50)
    expected = Collator(model)([long])
    try:
        tokenizer.model_max_length = 16
        backend.enable_truncation(16)
        found = Collator(auto.VisionLanguageModel(model.network, model.processor, model.store))([long])
        assert sum(model.num_tokens(long)) == found["input_ids"].shape[1]
    finally:
        tokenizer.model_max_length = kept
        backend.no_truncation()
    assert (found["input_ids"] == expected["input_ids"]).all()
    assert found["input_ids"].shape[1] > 300
