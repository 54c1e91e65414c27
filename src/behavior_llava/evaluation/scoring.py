"""How likely is each label as the answer: media and prompt run once, all labels as one token tree behind
them.

The keys and values of what comes first are computed once and kept. Behind them stand, in one more pass, the
end of the prompt and the labels' tokens, merged where they share a beginning, under a mask in which a token
sees the prompt and its own ancestors. Several questions on one media item share it: each is a branch of its
own. Equal to a full forward pass for every label (tests compare them), at about one K-th of the cost.

    B rows, one a media item · T tokens that all questions of a row begin with · S tokens behind them
    K labels of a question · M nodes of their tree · N tokens whose next one is looked at
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Example
from behavior_llava.models.auto import IGNORED, VisionLanguageModel
from behavior_llava.training.batching import PER_TOKEN

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """A question and the answers it may have.

    Attributes:
        example: prompt and media; its completion is not looked at.
        labels: the answers, as the template would put them behind the prompt, without the end of the turn.
    """

    example: Example
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """How likely each label of a query is as the beginning of the answer.

    Attributes:
        log_probs: [K] in nats, summed over the label's tokens; float64.
        num_tokens: [K] tokens of each label.
    """

    log_probs: np.ndarray
    num_tokens: np.ndarray


@dataclass(frozen=True)
class LabelTree:
    """The labels' tokens as a tree; node -1 is the prompt's last token.

    Attributes:
        tokens, parents, depths: a node each, parents before children; only tokens another token follows are
            nodes.
        steps: for every label, the (node, token) pairs whose log-probabilities add up to the label's.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    steps: tuple[tuple[tuple[int, int], ...], ...]


def label_tree(labels: Sequence[Sequence[int]]) -> LabelTree:
    """The tree of the labels' token sequences.

    Raises:
        ValueError: a label has no token.
    """
    node_of: dict[tuple[int, ...], int] = {(): -1}
    tokens, parents, depths, steps = [], [], [], []
    for label in labels:
        if not label:
            raise ValueError("a label without tokens")
        path = []
        for place, token in enumerate(label):
            before = tuple(label[:place])
            if before not in node_of:
                node_of[before] = len(tokens)
                tokens.append(label[place - 1])
                parents.append(node_of[tuple(label[: place - 1])])
                depths.append(place)
            path.append((node_of[before], token))
        steps.append(tuple(path))
    return LabelTree(tuple(tokens), tuple(parents), tuple(depths), tuple(steps))


def score_labels(
    model: VisionLanguageModel, examples: Sequence[Example], labels: Sequence[str]
) -> np.ndarray:
    """Log-probability of each label as the beginning of each example's answer: [examples, K]; see Scorer."""
    found = Scorer(model).scores([Query(example, tuple(labels)) for example in examples])
    return np.stack([one.log_probs for one in found])


class Scorer:
    """Scores queries with one model, as many at a time as memory holds.

    What it learns of memory is kept from call to call.
    """

    def __init__(self, model: VisionLanguageModel) -> None:
        self._model = model
        self._most_rows: int | None = None

    @torch.inference_mode()
    def scores(self, queries: Sequence[Query]) -> list[Scores]:
        """How likely the labels of every query are, in the queries' order.

        Queries on one media item share it, where its tokens do not depend on the question (in LLaMA-VID they
        do). The result depends neither on the order nor on how many there are.

        Raises:
            MediaFault: an example's media is gone or broken.
            UserError: the model gives NaN or infinities, or memory does not hold a single row.
            ValueError: a query without labels, or a label without tokens.
        """
        rows = [
            [
                _Branch(number, queries[number], tail, _tree_of(self._model, queries[number]))
                for number, tail in row
            ]
            for row in _sharing(self._model, [query.example for query in queries])
        ]
        found: dict[int, Scores] = {}
        start = 0
        while start < len(rows):
            count = min(self._most_rows or len(rows), len(rows) - start)
            done = self._tried(rows[start : start + count])
            if done is None:
                self._most_rows = count // 2
                log.warning("memory does not hold %d questions at a time: now %d", count, count // 2)
                continue
            found |= done
            start += count
        return [found[number] for number in range(len(queries))]

    def _tried(self, rows: Sequence[list[_Branch]]) -> dict[int, Scores] | None:
        """The scores by the queries' numbers; None where memory does not hold several rows."""
        try:
            batch = _Batch(self._model, rows)
            if len(rows) > 1 and batch.expected_bytes() > _SHARE_OF_FREE * _free_bytes(self._model.device):
                return None
            return batch.scores()
        except (RuntimeError, MemoryError) as error:
            refuse_unless_memory(error, len(rows), where=rows[0][0].query.example.id)
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def refuse_unless_memory(error: Exception, count: int, *, where: str) -> None:
    """Returns where memory did not hold so many questions and may hold fewer.

    Args:
        where: the first of them.

    Raises:
        UserError: memory did not hold a single one.
        Exception: the error itself, where it is another.
    """
    if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
        raise error
    if count == 1:
        raise UserError(
            "memory does not hold this question",
            where=where,
            remedy="show fewer frames, or use a larger GPU",
        ) from error


_SHARE_OF_FREE = 0.6
"""Of the memory that is free so much is planned with: the estimate knows the large tensors only."""


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return psutil.virtual_memory().available


# ---- which question stands in which row --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Branch:
    """A question behind what its row shares.

    Attributes:
        number: of the query.
        tail: the last tokens of the prompt, its own; None where it stands alone and its last token is meant.
    """

    number: int
    query: Query
    tail: list[int] | None
    tree: LabelTree


def _tree_of(model: VisionLanguageModel, query: Query) -> LabelTree:
    if not query.labels:
        raise ValueError(f"{query.example.id} has no labels")
    return label_tree([model.completion_ids(label, end=False) for label in query.labels])


def _sharing(
    model: VisionLanguageModel, examples: Sequence[Example]
) -> list[list[tuple[int, list[int] | None]]]:
    """The examples' numbers by the row they stand in, each with the tokens of its prompt that are its own."""
    by_media: dict[object, list[int]] = {}
    for number, example in enumerate(examples):
        media = example.media
        key: object = number
        if media is not None and not model.facts.media_see_question:
            key = media.seen
        by_media.setdefault(key, []).append(number)
    found: list[list[tuple[int, list[int] | None]]] = []
    for numbers in by_media.values():
        tails = _tails([model.prompt_ids(examples[number]) for number in numbers]) if numbers[1:] else []
        if not tails or any(model.media_token_ids & set(tail) for tail in tails):
            found.extend([(number, None)] for number in numbers)
        else:
            found.append(list(zip(numbers, tails, strict=True)))
    return found


def _tails(prompts: Sequence[list[int]]) -> list[list[int]]:
    """What is left of each prompt behind the beginning they share; at least its last token."""
    shared = 0
    for tokens in zip(*(prompt[:-1] for prompt in prompts), strict=False):
        if len(set(tokens)) > 1:
            break
        shared += 1
    return [prompt[shared:] for prompt in prompts]


class _Behind:
    """A row's tokens behind what its questions share.

    Attributes:
        tokens, depths: [S] each token, and how many tokens of its branch it stands behind.
        sees: [S, S] True where a token sees another.
        asked: [N] places of the tokens whose next one is looked at, rising.
        steps: for each branch, for each label the (index into asked, token) pairs that add up to it.
    """

    def __init__(self, branches: Sequence[_Branch], tails: Sequence[list[int]]) -> None:
        self.tokens: list[int] = []
        self.depths: list[int] = []
        self.asked: list[int] = []
        self.steps: list[list[list[tuple[int, int]]]] = []
        parents: list[int] = []
        for branch, tail in zip(branches, tails, strict=True):
            tree, start = branch.tree, len(self.tokens)
            root = start + len(tail) - 1
            self.tokens += [*tail, *tree.tokens]
            self.depths += [*range(len(tail)), *(len(tail) - 1 + depth for depth in tree.depths)]
            parents += [-1, *range(start, root), *(root + 1 + parent for parent in tree.parents)]
            # the prompt's last token is node -1
            first = len(self.asked) + 1
            self.asked += range(root, len(self.tokens))
            self.steps.append([[(first + node, token) for node, token in steps] for steps in tree.steps])
        self.sees = np.eye(len(self.tokens), dtype=bool)
        for place, parent in enumerate(parents):
            if parent >= 0:
                self.sees[place] |= self.sees[parent]


# ---- a batch of rows ---------------------------------------------------------------------------------------


class _Batch:
    """Rows that run together."""

    def __init__(self, model: VisionLanguageModel, rows: Sequence[list[_Branch]]) -> None:
        self._model, self._rows = model, rows
        inputs = model.inputs([row[0].query.example for row in rows], supervise=False)
        ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
        positions = model.positions({**inputs, "input_ids": ids, "attention_mask": mask})
        if positions is None:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
        own = [1 if row[0].tail is None else len(row[0].tail) for row in rows]
        tails = [ids[number, -count:].tolist() for number, count in enumerate(own)]
        for row, tail in zip(rows, tails, strict=True):
            if row[0].tail not in (None, tail):
                raise UserError(
                    "the row's tokens are not those of its template",
                    where=row[0].query.example.id,
                    remedy="report this model and row",
                )
        ends = [ids.shape[1] - count for count in own]
        width = max(int(row.sum()) - count for row, count in zip(mask, own, strict=True))
        pad = model.tokenizer.pad_token_id
        self._first = {
            "input_ids": _up_to(ids, ends, width, pad),
            "attention_mask": _up_to(mask, ends, width, 0),
            "position_ids": _up_to(positions, ends, width, 0),
            **{name: value for name, value in inputs.items() if name not in PER_TOKEN},
        }
        self._behind = [
            _Behind(row, [tail, *(branch.tail or [] for branch in row[1:])])
            for row, tail in zip(rows, tails, strict=True)
        ]
        size = max(len(row.tokens) for row in self._behind)
        tokens, keep = torch.full((len(rows), size), pad), torch.zeros(len(rows), size, dtype=torch.bool)
        places = torch.zeros(*positions.shape[:-1], size, dtype=torch.long)
        sees = torch.zeros(len(rows), size, size, dtype=torch.bool)
        for number, (row, end) in enumerate(zip(self._behind, ends, strict=True)):
            here = len(row.tokens)
            tokens[number, :here] = torch.tensor(row.tokens)
            keep[number, row.asked] = True
            places[..., number, :here] = positions[..., number, end, None] + torch.tensor(row.depths)
            sees[number, :here, :here] = torch.from_numpy(row.sees)
        before = self._first["attention_mask"].bool()[:, None, :].expand(-1, size, -1)
        allowed = torch.cat([before, sees], dim=2)
        dtype = model.network.dtype
        blocked = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min)
        self._then = {
            "input_ids": tokens,
            "attention_mask": blocked[:, None],
            "position_ids": places,
            "logits_to_keep": keep,
        }

    def expected_bytes(self) -> int:
        """About what the forward passes hold at once: keys and values, logits, one layer's activations, and
        what the vision tower makes of the pictures.
        """
        network = self._model.network
        config = network.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        side = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        rows, width = self._first["input_ids"].shape
        size = self._then["input_ids"].shape[1]
        item = network.dtype.itemsize
        cache = 2 * config.num_hidden_layers * heads * side * (width + size) * rows
        layer = rows * max(width, size) * (8 * config.hidden_size + 3 * config.intermediate_size)
        masks = rows * (size * (width + size) + width * width)
        logits = int(self._then["logits_to_keep"].sum()) * config.vocab_size
        tower = _TOWER_A_PIXEL * sum(
            value.numel() for name, value in self._first.items() if name.startswith("pixel_values")
        )
        return item * (cache + layer + masks + tower) + (item + 4) * logits

    def scores(self) -> dict[int, Scores]:
        """The scores by the queries' numbers."""
        model = self._model
        first = model.network(**self._on_device(self._first), use_cache=True, logits_to_keep=1)
        logits = model.network(
            **self._on_device(self._then), past_key_values=first.past_key_values, use_cache=True
        ).logits.float()
        totals = logits.logsumexp(-1)
        found: dict[int, Scores] = {}
        start = 0
        for row, behind in zip(self._rows, self._behind, strict=True):
            for branch, labels in zip(row, behind.steps, strict=True):
                nodes = torch.tensor([start + node for steps in labels for node, _ in steps])
                tokens = torch.tensor([token for steps in labels for _, token in steps])
                nodes, tokens = nodes.to(logits.device), tokens.to(logits.device)
                each = (logits[nodes, tokens] - totals[nodes]).double().cpu()
                lengths = [len(steps) for steps in labels]
                log_probs = torch.stack([part.sum() for part in each.split(lengths)])
                _refuse_nan(log_probs.isfinite().all()[None], [branch.query.example])
                found[branch.number] = Scores(log_probs.numpy(), np.array(lengths))
            start += len(behind.asked)
        return found

    def _on_device(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: value.to(self._model.device) for name, value in tensors.items()}


_TOWER_A_PIXEL = 20
"""Numbers a vision tower holds at once for every number of its pixels: a layer of CLIP's and SigLIP's large
towers holds about a dozen times a patch's width, which is 588 numbers in and 1024 or 1152 wide."""


def _up_to(values: torch.Tensor, ends: Sequence[int], width: int, filler: int) -> torch.Tensor:
    """The `width` places before each row's end, with filler where there are not so many: [..., B, width]."""
    found = torch.full((*values.shape[:-1], width), filler, dtype=values.dtype)
    for row, end in enumerate(ends):
        part = values[..., row, max(0, end - width) : end]
        found[..., row, width - part.shape[-1] :] = part
    return found


def _refuse_nan(is_finite: torch.Tensor, examples: Sequence[Example]) -> None:
    """An argmax over NaN is the first label: broken weights would look like an opinion."""
    if not is_finite.all():
        row = int((~is_finite).nonzero()[0])
        raise UserError(
            "the model gives no finite log-probabilities",
            where=examples[row].id,
            remedy="its weights are broken; look at the loss of its training",
        )


def _shared(whole: Sequence[int], part: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    shared = 0
    while shared < min(len(whole), len(part)) and whole[shared] == part[shared]:
        shared += 1
    return shared


@torch.inference_mode()
def answer_nll(
    model: VisionLanguageModel,
    examples: Sequence[Example],
    given: Sequence[str],
    until: Sequence[str] | None = None,
) -> list[tuple[float, int]]:
    """Negative log-likelihood in nats and number of tokens of each completion behind its part `given`.

    Args:
        given: the beginning of every completion that is not scored.
        until: the beginning of every completion behind whose end nothing is scored; None scores up to and
            with the end of the turn. A token that reaches over an edge is of what comes behind it.

    Raises:
        MediaFault: an example's media is gone or broken.
        UserError: the model gives NaN or infinities.
    """
    batch = {key: value.to(model.device) for key, value in model.inputs(examples, supervise=True).items()}
    labels = batch.pop("labels")
    for row, (example, start) in enumerate(zip(examples, given, strict=True)):
        assert example.completion is not None
        whole = model.completion_ids(example.completion, end=True)
        place = int((labels[row] != IGNORED).nonzero()[0])
        labels[row, place : place + _shared(whole, model.completion_ids(start, end=False))] = IGNORED
        if until is not None:
            labels[row, place + _shared(whole, model.completion_ids(until[row], end=False)) :] = IGNORED
    targets = labels[:, 1:]
    scored = targets != IGNORED
    keep = torch.cat([scored, torch.zeros_like(scored[:, :1])], dim=1)
    logits = model.network(**batch, logits_to_keep=keep).logits.float().log_softmax(-1)
    picked = logits.gather(1, targets[scored][:, None])[:, 0].double()
    counts = scored.sum(1).tolist()
    parts = picked.split(counts)
    _refuse_nan(torch.stack([part.isfinite().all() for part in parts]), examples)
    return [(-float(part.sum()), count) for part, count in zip(parts, counts, strict=True)]
