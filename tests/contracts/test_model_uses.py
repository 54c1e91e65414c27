"""What training and scoring do with every architecture: what is shared changes no result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from behavior_llava.core.schema import Example, Media
from behavior_llava.evaluation.scoring import score_labels
from behavior_llava.training.batching import Collator, can_share, loss

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel

LABELS = ("joy", "joyful", "Joy", "joyful day", "anger", "a good day", "joyful days")


@pytest.fixture(scope="module")
def questions(media: dict[str, Media]) -> list[Example]:
    """Three questions on a picture, two on a video, one on another picture, and text alone."""
    asked = [
        ("a", "what do viewers feel", "joy"),
        ("b", "describe", "a red sky"),
        ("a", "what do viewers feel", "anger"),
        (None, "it was a good day", "joy and a good day"),
        ("clip", "describe", "a happy blue sky"),
        ("a", "describe the red sky in a good day", "it was good"),
        ("clip", "what do viewers feel", "sadness"),
    ]
    return [
        Example(f"row{number}", prompt, answer, media[name] if name else None)
        for number, (name, prompt, answer) in enumerate(asked)
    ]


def gradients(model: VisionLanguageModel, batch: dict[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    model.network.zero_grad()
    found = loss(model.network, batch) if "rows" in batch else model.network(**batch).loss
    found.backward()
    grads = {
        name: value.grad.clone() for name, value in model.network.named_parameters() if value.grad is not None
    }
    model.network.zero_grad()
    return float(found.detach()), grads


def test_behind_the_media_tokens_are_those_of_the_text(
    model: VisionLanguageModel, questions: list[Example]
) -> None:
    for row in questions:
        text = model.text_ids(row)
        (whole,) = model.inputs([row], supervise=True)["input_ids"].tolist()
        places = [number for number, token in enumerate(text) if token in model.media_token_ids]
        behind = len(text) - 1 - max(places, default=-1)
        assert behind > 3
        assert whole[-behind:] == text[-behind:]
        assert bool(places) == (row.media is not None)


@pytest.mark.parametrize("pack_tokens", [None, 300, 100_000])
def test_questions_in_one_sequence_teach_what_they_teach_apart(
    model: VisionLanguageModel, questions: list[Example], pack_tokens: int | None
) -> None:
    apart = model.inputs(questions, supervise=True)
    together = Collator(model, pack_tokens=pack_tokens)(questions)
    sees_question = model.facts.media_see_question
    seen = [
        sum(int((batch["input_ids"] == token).sum()) for token in model.media_token_ids)
        for batch in (apart, together)
    ]
    # six rows show media, of three items
    assert seen[1] == seen[0] if sees_question else seen[1] < 0.7 * seen[0]
    assert together["attention_mask"].ndim == 4 or (sees_question and pack_tokens is None)
    expected, grads = gradients(model, apart)
    found, shared_grads = gradients(model, together)
    assert found == pytest.approx(expected, abs=1e-5)
    assert grads.keys() == shared_grads.keys()
    biggest = max(float(grad.abs().max()) for grad in grads.values())
    for name, grad in grads.items():
        most = max(float(grad.abs().max()), 1e-3 * biggest)
        assert (grad - shared_grads[name]).abs().max() <= 1e-5 * max(most, 1.0), name
    assert can_share(model, questions, pack_tokens)


def naive(model: VisionLanguageModel, question: Example, label: str) -> float:
    """One full forward pass for one label."""
    row = model.inputs([replace(question, completion=label)], supervise=True)
    answer = model.completion_ids(label, end=False)
    labels = row.pop("labels")[0]
    start = int((labels != -100).nonzero()[0])
    with torch.inference_mode():
        shares = model.network(**row).logits[0].double().log_softmax(-1)
    return float(sum(shares[start + place - 1, token] for place, token in enumerate(answer)))


def test_labels_as_a_tree_score_as_labels_one_by_one(
    model: VisionLanguageModel, questions: list[Example]
) -> None:
    asked = [replace(row, completion=None) for row in questions]
    expected = np.array([[naive(model, question, label) for label in LABELS] for question in asked])
    np.testing.assert_allclose(score_labels(model, asked, LABELS), expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(score_labels(model, asked[::-1], LABELS)[::-1], expected, atol=1e-4, rtol=0)
    for number, question in enumerate(asked):
        np.testing.assert_allclose(
            score_labels(model, [question], LABELS)[0], expected[number], atol=1e-4, rtol=0
        )
