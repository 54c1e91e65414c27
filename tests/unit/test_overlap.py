"""Benchmark texts in training texts: copies are found, whatever else shares words is not."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior_llava.evaluation.overlap import MIN_EQUAL_WORDS, SHARE, WORDS, Overlap, TextHit, words

REVIEW = (
    "I went in expecting nothing and came out humming; the second act drags, but its last ten minutes are "
    "worth the price of a ticket and of the popcorn too."
)
OTHER = (
    "A cold, patient film about a lighthouse keeper who stops answering letters, shot almost all at dusk "
    "and better for every minute of silence."
)


def hits(texts, rows):
    found = Overlap(texts)
    for name, said in rows:
        found.meet([(name, [said])])
    return found.hits()


def test_words_know_no_case_punctuation_or_markup():
    assert words("Don\u2019t  STOP--it's<br />fine_print, <3 caf\u00e9!") == [
        *("dont", "stop", "its", "fine", "print", "3", "caf\u00e9")
    ]
    assert words("\ufb01ne \u2460") == words("FINE 1")


def test_copy_with_other_case_and_punctuation_is_found():
    copied = REVIEW.upper().replace(";", " --").replace(",", "").replace(" ", "\n", 3)
    found = hits({"t": {"a": REVIEW, "b": OTHER}}, [("r1", "nothing"), ("r2", f"He wrote: {copied} Right?")])
    assert found == [TextHit("t", "a", "r2", 1.0)]


def test_paraphrase_and_shared_phrases_are_not_found():
    paraphrase = (
        "I expected nothing, and left humming. Act two drags, though the final ten minutes earn what the "
        "ticket and the popcorn cost."
    )
    assert hits({"t": {"a": REVIEW}}, [("r", paraphrase), ("s", " ".join(REVIEW.split()[:14]))]) == []


def test_share_of_ngrams_decides():
    """20 words have 13 8-grams; 17 of the words hold 10 (77 %), 16 hold 9 (69 %)."""
    text = [f"w{number}" for number in range(20)]
    texts = {"t": {"a": " ".join(text)}}
    (hit,) = hits(texts, [("r", " ".join(text[:17]))])
    assert hit.share == pytest.approx(10 / 13)
    assert hits(texts, [("r", " ".join(text[:16]))]) == []
    # in two rows, of which the first holds more
    (hit,) = hits(texts, [("x", " ".join(text[6:])), ("y", " ".join(text[:12]))])
    assert (hit.row, hit.share) == ("x", pytest.approx(12 / 13))


def test_ngrams_do_not_reach_over_the_end_of_a_text():
    left, right = REVIEW.split()[:12], REVIEW.split()[12:]
    found = Overlap({"t": {"a": REVIEW}})
    found.meet([("r", [" ".join(left), " ".join(right)])])
    # 30 words have 23 8-grams; the parts of 12 and 18 words hold 5 and 11 of them
    assert len(words(REVIEW)) == 30
    assert found.hits() == []
    assert (5 + 11) / 23 < SHARE


def test_short_texts_are_found_as_whole_lines_only():
    texts = {"t": {"five": "What a strange little film!", "four": "What a strange film"}}
    assert MIN_EQUAL_WORDS == 5
    rows = [("a", "what a strange little film it was"), ("b", "what a strange film")]
    assert hits(texts, rows) == []
    found = hits(texts, [*rows, ("c", "Comments:\n2. what a strange little film...\nend")])
    assert found == [TextHit("t", "five", "c", 1.0)]
    assert Overlap(texts).num_short == 1


def test_wording_of_a_template_makes_no_hits():
    template = "please look closely at the following statement and then say whether it is true or false: "
    texts = {"t": {str(number): template + f"item {number}" for number in range(12)}}
    found = Overlap(texts)
    found.meet([("r", [template])])
    assert found.hits() == []
    # such a sample has next to no words of its own, which is counted
    assert found.num_short == 12
    own = {"t": {str(number): f"{template} {REVIEW} number {number}" for number in range(2)}}
    assert hits(own, [("r", template)]) == []


def test_template_beside_own_words_leaves_the_own_words():
    template = "please look closely at the following statement and then say whether it is true or false: "
    rng = random.Random(0)
    own = {str(number): " ".join(f"v{rng.randrange(9999)}" for _ in range(30)) for number in range(12)}
    texts = {"t": {name: template + text for name, text in own.items()}}
    found = hits(texts, [("r", template), ("s", own["7"])])
    # 8-grams over the seam are the sample's own, and not in the row: 23 of 30
    assert found == [TextHit("t", "7", "s", pytest.approx(23 / 30))]


def test_tasks_have_their_own_templates():
    texts = {"t": {"a": REVIEW, "b": REVIEW, "c": REVIEW}, "u": {"a": REVIEW}}
    assert [hit.task for hit in hits(texts, [("r", REVIEW)])] == ["u"]


@pytest.mark.parametrize("texts", [{}, {"t": {}}, {"t": {"a": ""}}, {"t": {"a": "..."}}, {"t": {"a": "hi"}}])
def test_empty_sides(texts):
    assert hits(texts, [("r", REVIEW), ("s", "")]) == []
    assert hits({"t": {"a": REVIEW}}, []) == []


def naive(texts, rows):
    """By sets of tuples, as the definition says; without templates."""

    def grams(text):
        said = words(text)
        return {tuple(said[at : at + WORDS]) for at in range(len(said) - WORDS + 1)}

    met = set().union(*(grams(text) for _, text in rows))
    found = set()
    for task, samples in texts.items():
        for name, text in samples.items():
            own = grams(text)
            if own and len(own & met) / len(own) >= SHARE:
                found.add((task, name))
    return found


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_equals_sets_of_tuples_in_any_order(rng):
    said = [" ".join(rng.choice("ab") for _ in range(rng.randrange(30))) for _ in range(6)]
    texts = {"t": {"a": said[0]}, "u": {"b": said[1], "c": said[2]}}
    rows = [(f"r{number}", text) for number, text in enumerate([*said[3:], said[0][:40], said[2]])]
    first = [hit for hit in hits(texts, rows) if len(words(texts[hit.task][hit.sample_id])) >= WORDS]
    assert {(hit.task, hit.sample_id) for hit in first} == naive(texts, rows)
    rng.shuffle(rows)
    again = Overlap({"u": {"c": said[2], "b": said[1]}, "t": {"a": said[0]}})
    again.meet([(name, [text]) for name, text in rows])
    kept = [hit for hit in again.hits() if len(words(texts[hit.task][hit.sample_id])) >= WORDS]
    assert kept == first
