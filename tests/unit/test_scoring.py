"""Labels as a tree equal labels one by one, whatever they share and whoever stands beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Example, Media
from behavior_llava.evaluation import scoring
from behavior_llava.evaluation.scoring import Query, Scorer, _tails, answer_nll, label_tree, score_labels

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel

# first tokens shared, one the beginning of another, case, blanks, one letter, several words, twice the same
LABELS = (
    "joy",
    "joyful",
    "Joy",
    " joy",
    "joyful day",
    "joyful days",
    "anger",
    "a",
    "it was a good day",
    "07",
    "joy",
)


@pytest.fixture(scope="module")
def questions(media: dict[str, Media]) -> list[Example]:
    return [
        Example("1", "what do viewers feel", None, media["a"]),
        Example("2", "it was a good day\nwhat do viewers feel about the red sky", None, media["clip"]),
        Example("3", "describe", None, None),
        Example("4", "what do viewers feel", None, media["b"]),
        Example("5", "describe the blue sky " * 6, None, media["c"]),
    ]


def naive(model: VisionLanguageModel, question: Example, label: str) -> float:
    """One full forward pass for one label."""
    row = model.inputs([replace(question, completion=label)], supervise=True)
    answer = model.completion_ids(label, end=False)
    labels = row.pop("labels")[0]
    start = int((labels != -100).nonzero()[0])
    with torch.inference_mode():
        shares = model.network(**row).logits[0].double().log_softmax(-1)
    ids = row["input_ids"][0]
    assert ids[start : start + len(answer)].tolist() == answer
    return float(sum(shares[start + place - 1, token] for place, token in enumerate(answer)))


# ---- equal to one pass a label ----------------------------------------------------------------------------


def test_scores_equal_full_passes(tiny: VisionLanguageModel, questions: list[Example]) -> None:
    expected = np.array([[naive(tiny, question, label) for label in LABELS] for question in questions])
    found = score_labels(tiny, questions, LABELS)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    # the numbers compared are not all alike
    assert np.ptp(expected, axis=1).min() > 1
    assert np.ptp(expected, axis=0).min() > 1e-2


def test_the_labels_share_tokens(tiny: VisionLanguageModel) -> None:
    ids = [tiny.completion_ids(label, end=False) for label in LABELS]
    tree = label_tree(ids)
    assert len(tree.tokens) < sum(len(label) - 1 for label in ids)
    assert len({tuple(label) for label in ids}) == len(LABELS) - 1


def test_scores_do_not_depend_on_the_batch(tiny: VisionLanguageModel, questions: list[Example]) -> None:
    together = score_labels(tiny, questions, LABELS)
    apart = np.concatenate([score_labels(tiny, [question], LABELS) for question in questions])
    np.testing.assert_allclose(apart, together, atol=1e-4, rtol=0)
    backwards = score_labels(tiny, questions[::-1], LABELS)[::-1]
    np.testing.assert_allclose(backwards, together, atol=1e-4, rtol=0)
    padded = replace(questions[2], prompt="it was a good day " * 30)
    np.testing.assert_allclose(
        score_labels(tiny, [padded, *questions], LABELS)[1:], together, atol=1e-4, rtol=0
    )


def test_scores_do_not_depend_on_the_other_labels(
    tiny: VisionLanguageModel, questions: list[Example]
) -> None:
    together = score_labels(tiny, questions, LABELS)
    np.testing.assert_allclose(
        score_labels(tiny, questions, LABELS[::-1])[:, ::-1], together, atol=1e-4, rtol=0
    )
    for number, label in enumerate(LABELS):
        alone = score_labels(tiny, questions[:2], [label])[:, 0]
        np.testing.assert_allclose(alone, together[:2, number], atol=1e-4, rtol=0)


def test_all_continuations_of_one_token_share_its_probability(
    tiny: VisionLanguageModel, questions: list[Example]
) -> None:
    scores = score_labels(tiny, questions, LABELS)
    assert (scores < 0).all()
    joyful, day = LABELS.index("joyful"), LABELS.index("joyful day")
    assert (scores[:, day] < scores[:, joyful]).all()
    assert np.allclose(scores[:, 0], scores[:, -1])


def test_many_short_labels(tiny: VisionLanguageModel, questions: list[Example]) -> None:
    numbers = [f"{number:02d}" for number in range(100)]
    found = score_labels(tiny, questions[:2], numbers)
    for number in (0, 7, 42, 99):
        assert found[0, number] == pytest.approx(naive(tiny, questions[0], numbers[number]), abs=1e-4)


def test_numbers_that_are_no_numbers_are_never_scores(
    tiny: VisionLanguageModel, questions: list[Example]
) -> None:
    weight = tiny.network.get_input_embeddings().weight
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.fill_(float("nan"))
        with pytest.raises(UserError, match="no finite"):
            score_labels(tiny, questions[:2], LABELS)
        with pytest.raises(UserError, match="no finite"):
            answer_nll(tiny, [replace(questions[0], completion="joy")], [""])
    finally:
        with torch.no_grad():
            weight.copy_(kept)


# ---- the tree ----------------------------------------------------------------------------------------------


def test_a_tree_drawn_by_hand() -> None:
    tree = label_tree([[5, 6, 7], [5, 6, 8], [5], [9, 6]])
    assert tree.tokens == (5, 6, 9)
    assert tree.parents == (-1, 0, -1)
    assert tree.depths == (1, 2, 1)
    assert tree.steps == (((-1, 5), (0, 6), (1, 7)), ((-1, 5), (0, 6), (1, 8)), ((-1, 5),), ((-1, 9), (2, 6)))


def test_a_label_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        label_tree([[1], []])


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=12))
def test_every_label_can_be_walked_in_its_tree(labels: list[list[int]]) -> None:
    tree = label_tree(labels)

    def path(node: int) -> list[int]:
        return [] if node < 0 else [*path(tree.parents[node]), tree.tokens[node]]

    assert len(tree.tokens) == len(tree.parents) == len(tree.depths)
    assert len(tree.steps) == len(labels)
    for label, steps in zip(labels, tree.steps, strict=True):
        assert [token for _, token in steps] == label
        for place, (node, _) in enumerate(steps):
            assert path(node) == label[:place]
    for node, parent in enumerate(tree.parents):
        assert parent < node
        assert tree.depths[node] == len(path(node))
    beginnings = {tuple(label[:place]) for label in labels for place in range(1, len(label))}
    assert sorted(path(node) for node in range(len(tree.tokens))) == sorted(map(list, beginnings))


# ---- likelihood of a completion ----------------------------------------------------------------------------


def by_hand(model: VisionLanguageModel, row: Example, skip: int) -> tuple[float, int]:
    """The sum of -log p over the completion's tokens from number `skip` on, token by token."""
    assert row.completion is not None
    batch = model.inputs([replace(row, completion=None)], supervise=False)
    answer = model.completion_ids(row.completion, end=True)
    total = 0.0
    for place, token in enumerate(answer):
        ids = torch.cat([batch["input_ids"], torch.tensor([answer[:place]], dtype=torch.long)], 1)
        with torch.inference_mode():
            out = model.network(**{**batch, "input_ids": ids, "attention_mask": torch.ones_like(ids)})
        if place >= skip:
            total -= float(out.logits[0, -1].double().log_softmax(-1)[token])
    return total, len(answer) - skip


def test_the_likelihood_of_a_completion_behind_its_beginning(
    tiny: VisionLanguageModel, questions: list[Example]
) -> None:
    completions = ("a happy day\njoy", "joy", "it was a good day", "anger")
    given_parts = ("a happy day\n", "", "it was", "sadness")
    rows = [
        replace(row, completion=completion) for row, completion in zip(questions, completions, strict=False)
    ]
    found = answer_nll(tiny, rows, given_parts)
    for row, part, (loss, count) in zip(rows, given_parts, found, strict=True):
        whole, start = (
            tiny.completion_ids(str(row.completion), end=True),
            tiny.completion_ids(part, end=False),
        )
        skip = next(
            (n for n, pair in enumerate(zip(whole, start, strict=False)) if pair[0] != pair[1]), len(start)
        )
        expected = by_hand(tiny, row, skip)
        assert count == expected[1]
        assert loss == pytest.approx(expected[0], abs=1e-4)
    # "sadness" is no beginning of "anger" beyond what their first tokens share; nothing given scores all
    assert found[1][1] == len(tiny.completion_ids("joy", end=True))
    alone = [answer_nll(tiny, [row], [part])[0] for row, part in zip(rows, given_parts, strict=True)]
    assert [count for _, count in alone] == [count for _, count in found]
    assert [loss for loss, _ in alone] == pytest.approx([loss for loss, _ in found], abs=1e-4)


# ---- several questions on one media item ------------------------------------------------------------------


def test_questions_on_one_picture_share_it(
    tiny: VisionLanguageModel, media: dict[str, Media], monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [
        Query(Example("1", "what do viewers feel", None, media["a"]), LABELS),
        Query(Example("2", "describe the blue sky", None, media["b"]), LABELS[:3]),
        Query(Example("3", "what is it", None, media["a"]), ("a", "it was", "it was a day")),
        Query(Example("4", "what do viewers feel about the red sky", None, media["a"]), ("07",)),
        Query(Example("5", "what do viewers feel", None, media["a"]), ("anger", "joy")),
        Query(Example("6", "describe", None, None), ("anger", "joy")),
    ]
    expected = [[naive(tiny, query.example, label) for label in query.labels] for query in queries]
    shown: list[int] = []
    forward = tiny.network.forward

    def watched(*args: object, **inputs: object) -> object:
        ids = inputs["input_ids"]
        assert isinstance(ids, torch.Tensor)
        shown.append(int((ids == tiny.image_token_id).sum()))
        return forward(*args, **inputs)

    monkeypatch.setattr(tiny.network, "forward", watched)
    found = Scorer(tiny).scores(queries)
    picture = int(
        (tiny.inputs([queries[0].example], supervise=False)["input_ids"] == tiny.image_token_id).sum()
    )
    assert picture > 0
    assert shown == [2 * picture, 0]
    for query, one, true in zip(queries, found, expected, strict=True):
        np.testing.assert_allclose(one.log_probs, true, atol=1e-4, rtol=0)
        assert one.num_tokens.tolist() == [len(tiny.completion_ids(text, end=False)) for text in query.labels]


def test_prompts_part_where_they_differ_and_keep_a_token_each() -> None:
    assert _tails([[1, 2, 3], [1, 2, 4, 5]]) == [[3], [4, 5]]
    assert _tails([[1, 2, 3], [1, 2, 3]]) == [[3], [3]]
    assert _tails([[1, 2], [1, 2, 3, 4]]) == [[2], [2, 3, 4]]
    assert _tails([[7], [1, 2]]) == [[7], [1, 2]]


# ---- memory ------------------------------------------------------------------------------------------------


def test_half_as_many_where_memory_does_not_hold_them(
    tiny: VisionLanguageModel,
    questions: list[Example],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = score_labels(tiny, questions, LABELS)
    tried: list[int] = []
    run = tiny.network.forward

    def forward(*args: object, **inputs: object) -> object:
        ids = inputs["input_ids"]
        assert isinstance(ids, torch.Tensor)
        tried.append(len(ids))
        if len(ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(*args, **inputs)

    monkeypatch.setattr(tiny.network, "forward", forward)
    scorer = Scorer(tiny)
    for _ in range(2):
        found = scorer.scores([Query(question, LABELS) for question in questions])
        np.testing.assert_allclose(np.stack([one.log_probs for one in found]), expected, atol=1e-4, rtol=0)
    # five are tried once; both passes of two, two and one follow, and again
    assert tried == [5, *(2, 2, 2, 2, 1, 1) * 2]
    assert [record.message for record in caplog.records] == [
        "memory does not hold 5 questions at a time: now 2"
    ]


def test_what_memory_will_not_hold_is_not_tried(
    tiny: VisionLanguageModel, questions: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = score_labels(tiny, questions, LABELS)
    batch = scoring._Batch(tiny, [[_one(tiny, number, row)] for number, row in enumerate(questions[:2])])
    monkeypatch.setattr(scoring, "_free_bytes", lambda device: batch.expected_bytes())
    run, tried = tiny.network.forward, []

    def forward(*args: object, **inputs: object) -> object:
        ids = inputs["input_ids"]
        assert isinstance(ids, torch.Tensor)
        tried.append(len(ids))
        return run(*args, **inputs)

    monkeypatch.setattr(tiny.network, "forward", forward)
    np.testing.assert_allclose(score_labels(tiny, questions, LABELS), expected, atol=1e-4, rtol=0)
    assert tried
    assert max(tried) == 1


def _one(tiny: VisionLanguageModel, number: int, example: Example) -> scoring._Branch:
    query = Query(example, LABELS)
    return scoring._Branch(number, query, None, scoring._tree_of(tiny, query))


def test_a_question_too_large_for_memory_is_named(
    tiny: VisionLanguageModel, questions: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*args: object, **inputs: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(tiny.network, "forward", forward)
    with pytest.raises(UserError, match="memory does not hold this question") as error:
        score_labels(tiny, questions[:1], LABELS)
    assert questions[0].id in str(error.value)


def test_another_fault_is_not_taken_for_want_of_memory(
    tiny: VisionLanguageModel, questions: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*args: object, **inputs: object) -> object:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(tiny.network, "forward", forward)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        score_labels(tiny, questions, LABELS)


def test_a_query_without_labels_is_refused(tiny: VisionLanguageModel, questions: list[Example]) -> None:
    with pytest.raises(ValueError, match="has no labels"):
        Scorer(tiny).scores([Query(questions[0], ())])
