"""A training stage: what it refuses to learn from, what it learns, and that a kill changes nothing of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.llama.modeling_llama import LlamaMLP

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media
from behavior_llava.models import auto
from behavior_llava.training import lora, trainer
from behavior_llava.training.batching import Collator, can_share, gate, loss, not_finite
from behavior_llava.training.lora import LoraConfig
from behavior_llava.training.trainer import TrainConfig, train

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel

ARGUMENTS = {"learning_rate": 0.01, "per_device_train_batch_size": 2, "save_steps": 2, "logging_steps": 1}
STEPS = 7


@pytest.fixture(scope="module")
def rows(media: dict[str, Media]) -> list[Example]:
    """Two rows a step."""
    items = [media["a"], None, media["b"], media["clip"], media["c"]]
    words = ["joy", "anger", "a good day", "sadness"]
    return [
        Example(f"row{n}", f"what do viewers feel {n}", words[n % 4], items[n % 5]) for n in range(2 * STEPS)
    ]


def config(**arguments: Any) -> TrainConfig:
    return TrainConfig(epochs=1, arguments={**ARGUMENTS, **arguments})


def run(
    model_folder: Path, rows: list[Example], folder: Path, settings: TrainConfig | None = None
) -> dict[str, Any]:
    model = auto.load(str(model_folder), FrameStore(folder.parent / "frames"), device="cpu")
    return train(model, rows, settings or config(), folder, seed=0, label="test")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(tiny_folder: Path, rows: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "stage"
    facts = run(tiny_folder, rows, folder)
    assert facts["rows"] == 2 * STEPS
    assert facts["steps"] == STEPS
    return folder


def same(folder: Path, other: Path) -> bool:
    first, second = weights(folder), weights(other)
    equal = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    return equal and trainer.loss_curve(folder) == trainer.loss_curve(other)


# ---- what may be learned from ------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[[Example], Example], str]] = {
    "no answer": (lambda row: replace(row, completion=None), "no answer"),
    "an empty answer": (lambda row: replace(row, completion=""), "no answer"),
    "blanks": (lambda row: replace(row, completion=" \n "), "no answer"),
    "a picture in the prompt": (
        lambda row: replace(row, prompt="see <image> here"),
        "media placeholder <image>",
    ),
    "a picture in the answer": (lambda row: replace(row, completion="<image>"), "media placeholder <image>"),
    "too long": (lambda row: replace(row, prompt="word " * 101), r"of text\) where 100 are allowed"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_gate_names_the_row_at_fault(tiny: VisionLanguageModel, rows: list[Example], name: str) -> None:
    change, told = FAULTS[name]
    gate(tiny, rows, max_tokens=100)
    with pytest.raises(UserError, match=told) as caught:
        gate(tiny, [*rows[:3], change(rows[3]), *rows[4:]], max_tokens=100)
    assert caught.value.where == "row3"


def test_nothing_is_trained_before_the_gate(tiny_folder: Path, rows: list[Example], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row13: has no answer"):
        run(tiny_folder, [*rows[:-1], replace(rows[-1], completion="")], tmp_path / "stage")
    assert not (tmp_path / "stage").exists()


def test_a_row_whose_tokens_are_not_its_templates_is_refused(
    tiny: VisionLanguageModel, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "completion_ids", lambda *_, **__: [5, 6])
    with pytest.raises(UserError, match="row0: the row's tokens are not those of its template"):
        Collator(tiny)(rows[:2])


def test_no_other_row_takes_the_place_of_one_that_is_gone(
    tiny: VisionLanguageModel, rows: list[Example], tmp_path: Path
) -> None:
    gone = replace(rows[0], id="gone", media=Media(str(tmp_path / "gone.png"), "image", "ab" * 32))
    with pytest.raises(UserError, match=r"media_missing.*gone"):
        Collator(tiny)([rows[1], gone])


# ---- rows that share a sequence ----------------------------------------------------------------------------


def gradients(model: VisionLanguageModel, batch: dict[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    model.network.zero_grad()
    # the model's own loss where the batch is just what the processor makes
    found = loss(model.network, batch) if "rows" in batch else model.network(**batch).loss
    found.backward()
    grads = {
        name: value.grad.clone() for name, value in model.network.named_parameters() if value.grad is not None
    }
    model.network.zero_grad()
    return float(found.detach()), grads


@pytest.fixture
def questions(media: dict[str, Media]) -> list[Example]:
    """Several questions on some media, one on others, the same question twice, and text alone."""
    asked = [
        ("a", "what do viewers feel", "joy"),
        ("b", "describe", "a red sky"),
        ("a", "what do viewers feel", "anger"),
        (None, "it was a good day", "joy and a good day"),
        ("clip", "describe", "a happy blue sky"),
        ("a", "describe the red sky in a good day", "it was good"),
        ("clip", "what do viewers feel", "sadness"),
        (None, "it was a good day", "a red sky"),
        ("c", "describe", "joy"),
    ]
    return [
        Example(f"row{number}", prompt, answer, media[name] if name else None)
        for number, (name, prompt, answer) in enumerate(asked)
    ]


@pytest.mark.parametrize("pack_tokens", [None, 40, 100, 10_000])
def test_rows_of_one_sequence_teach_what_rows_apart_teach(
    tiny: VisionLanguageModel, questions: list[Example], pack_tokens: int | None
) -> None:
    apart = tiny.inputs(questions, supervise=True)
    together = Collator(tiny, pack_tokens=pack_tokens)(questions)
    # each picture once, and the questions' own words
    assert (together["input_ids"] == tiny.image_token_id).sum() == 4 * (
        1 + 1 + 1 + tiny.num_images(questions[4])
    )
    assert len(together["pixel_values"]) == 3 + tiny.num_images(questions[4])
    assert (together["labels"] != -100).sum() == (apart["labels"] != -100).sum()
    assert len(together["input_ids"]) == {None: 6, 10_000: 1}.get(pack_tokens, len(together["input_ids"]))
    expected, grads = gradients(tiny, apart)
    found, shared_grads = gradients(tiny, together)
    assert found == pytest.approx(expected, abs=1e-5)
    assert grads.keys() == shared_grads.keys()
    for name, grad in grads.items():
        assert (grad - shared_grads[name]).abs().max() <= 1e-5 * max(1.0, float(grad.abs().max())), name


def test_a_question_sees_the_media_and_itself_alone(
    tiny: VisionLanguageModel, questions: list[Example]
) -> None:
    """Another question on the same picture, of the same length, changes nothing for its siblings."""
    other = replace(questions[0], prompt="what red sky feel", completion="sadness")
    batches = [Collator(tiny, pack_tokens=10_000)([first, *questions[1:]]) for first in (questions[0], other)]
    assert batches[0]["input_ids"].shape == batches[1]["input_ids"].shape
    changed = (batches[0]["input_ids"] != batches[1]["input_ids"])[0]
    with torch.no_grad():
        first, second = (
            tiny.network.model(
                **{k: v for k, v in batch.items() if k not in ("labels", "logits_to_keep", "rows")}
            ).last_hidden_state[0]
            for batch in batches
        )
    moved = (first - second).abs().amax(-1) > 1e-6
    assert changed.any()
    assert moved[changed].all()
    # what moved lies in one branch: from the first changed token to its end
    places = moved.nonzero()[:, 0].tolist()
    assert places == list(range(places[0], places[-1] + 1))
    assert len(places) <= len(tiny.text_ids(other))


def test_without_sharing_every_question_has_its_media(
    tiny: VisionLanguageModel, questions: list[Example]
) -> None:
    batch = Collator(tiny, share=False)(questions)
    plain = tiny.inputs(questions, supervise=True)
    for name, value in plain.items():
        assert torch.equal(batch[name], value), name
    assert batch["rows"] == [
        (row.id, int((plain["labels"][number] != -100).sum())) for number, row in enumerate(questions)
    ]


@pytest.mark.parametrize("pack_tokens", [None, 100])
def test_a_model_that_mixes_rows_is_not_given_them_together(
    tiny: VisionLanguageModel,
    questions: list[Example],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    pack_tokens: int | None,
) -> None:
    assert can_share(tiny, questions, pack_tokens)
    assert not caplog.records
    forward = tiny.network.forward

    def mixing(**batch: Any) -> Any:
        if batch["attention_mask"].ndim == 4:
            batch.pop("attention_mask")  # all that tells who may see whom
        return forward(**batch)

    monkeypatch.setattr(tiny.network, "forward", mixing)
    assert not can_share(tiny, questions, pack_tokens)
    assert "does not keep rows of one sequence apart" in caplog.text


# ---- settings ----------------------------------------------------------------------------------------------


def test_frozen_parts_stay_and_others_learn(tiny_folder: Path, rows: list[Example], tmp_path: Path) -> None:
    settings = TrainConfig(epochs=1, freeze=("vision_tower", r"layers\.0\.mlp"), arguments=ARGUMENTS)
    run(tiny_folder, rows[:4], tmp_path / "stage", settings)
    before, after = load_file(tiny_folder / "model.safetensors"), weights(tmp_path / "stage")
    frozen = {name for name in before if torch.equal(before[name], after[name])}
    assert frozen == {name for name in before if "vision_tower" in name or "layers.0.mlp" in name}
    assert len(frozen) < len(before)


LORA = TrainConfig(
    epochs=1, lora=LoraConfig(rank=4, alpha=8, dropout=0.1), freeze=("vision_tower",), arguments=ARGUMENTS
)


@pytest.mark.slow
def test_adapters_are_merged_into_a_plain_model(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    facts = run(tiny_folder, rows, tmp_path / "stage", LORA)
    assert facts["steps"] == STEPS
    before, after = load_file(tiny_folder / "model.safetensors"), weights(tmp_path / "stage")
    assert before.keys() == after.keys()
    learned = {name for name in before if not torch.equal(before[name], after[name])}
    assert learned == {
        name
        for name in before
        if "multi_modal_projector" in name
        or re.search(r"language_model.*(q|k|v|o|gate|up|down)_proj\.weight", name)
    }
    assert len(learned) == 4 + 7 * sum("q_proj" in name for name in before if "language_model" in name)
    # what is merged is what the adapters said
    adapters = load_file(tmp_path / "stage" / "adapters" / "adapter_model.safetensors")
    name = next(key for key in adapters if "q_proj.lora_A" in key)
    low = adapters[name.replace("lora_A", "lora_B")] @ adapters[name]
    merged = next(key for key in learned if key.endswith(re.search(r"layers.*q_proj", name)[0] + ".weight"))  # pyright: ignore[reportOptionalSubscript]
    torch.testing.assert_close(after[merged] - before[merged], 8 / 4 * low, atol=1e-6, rtol=1e-4)
    assert not (tmp_path / "stage" / "model" / "adapter_config.json").exists()
    # loads in a process that knows transformers alone, and says what our model says
    model = auto.load(str(tmp_path / "stage" / "model"), FrameStore(tmp_path / "frames"), device="cpu")
    expected = model.generate([replace(rows[0], completion=None)], max_new_tokens=6)
    assert rows[0].media is not None
    assert transformers_alone(tmp_path / "stage" / "model", rows[0].media.path, rows[0].prompt) == expected


ALONE = """
import json, sys
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
folder, picture, prompt = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder)
network = AutoModelForImageTextToText.from_pretrained(folder).eval()
messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
text = processor.apply_chat_template(messages, add_generation_prompt=True)
inputs = processor(text=text, images=[Image.open(picture).convert("RGB")], return_tensors="pt")
ids = network.generate(**inputs, max_new_tokens=6, do_sample=False)
said = processor.batch_decode(ids[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
assert not any(name.split(".")[0] in ("behavior_llava", "peft") for name in sys.modules)
print(json.dumps([one.strip() for one in said]))
"""


def transformers_alone(folder: Path, picture: str, prompt: str) -> list[str]:
    """What a process that has never heard of this project answers."""
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), picture, prompt],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout.splitlines()[-1])


def test_adapters_continue_after_a_kill_to_the_same_bits(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    run(tiny_folder, rows, tmp_path / "whole", LORA)
    interrupted(tiny_folder, rows, tmp_path / "stage", 5, LORA)
    assert checkpoints(tmp_path / "stage")
    run(tiny_folder, rows, tmp_path / "stage", LORA)
    assert same(tmp_path / "stage", tmp_path / "whole")


def test_adapters_of_another_size_do_not_continue(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    interrupted(tiny_folder, rows, tmp_path / "stage", 5, LORA)
    (checkpoint,) = checkpoints(tmp_path / "stage")
    file = checkpoint / "adapter_model.safetensors"
    adapters = load_file(file)
    adapters["renamed"] = adapters.pop(next(name for name in adapters if "lora_A" in name))
    save_file(adapters, file)
    with pytest.raises(UserError, match="the checkpoint's weights do not fit"):
        run(tiny_folder, rows, tmp_path / "stage", LORA)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"targets": "nothing_like_it"}, "lora.targets 'nothing_like_it' cannot be used"),
        ({"targets": "("}, "cannot be used"),
        ({"whole": ("projektor",)}, "lora.whole names 'projektor'"),
    ],
)
def test_adapters_for_parts_that_are_not_there(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        run(
            tiny_folder,
            rows,
            tmp_path / "stage",
            TrainConfig(epochs=1, lora=LoraConfig(**settings), arguments=ARGUMENTS),
        )


def test_freezing_starts_from_nothing_frozen(tiny_folder: Path, tmp_path: Path) -> None:
    network = auto.load(str(tiny_folder), FrameStore(tmp_path), device="cpu").network
    trainer.freeze(network, ("vision_tower",))
    trainer.freeze(network, ("projector",))
    assert {name for name, value in network.named_parameters() if not value.requires_grad} == {
        name for name, _ in network.named_parameters() if "projector" in name
    }
    with pytest.raises(UserError, match="'vision_towr' matches no parameter"):
        trainer.freeze(network, ("projector", "vision_towr"))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("learning_rat", 0.1, "learning_rat"),
        ("lr_scheduler_type", "cosinus", "cosinus"),
        ("optim", "adam_best", "adam_best"),
        ("seed", 3, "seed is set by the method"),
        ("num_train_epochs", 3, "num_train_epochs is set by the method"),
        ("learning_rate", "1e-3", "learning_rate"),
    ],
)
def test_arguments_transformers_does_not_take(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, name: str, value: Any, told: str
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        run(tiny_folder, rows[:2], tmp_path / "stage", config(**{name: value}))
    assert caught.value.where == "arguments"


def test_rows_are_learned_in_their_order(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def noted(self: Collator, examples: list[Example]) -> dict[str, Any]:
        seen.extend(example.id for example in examples)
        return original(self, examples)

    original = Collator.__call__
    monkeypatch.setattr(Collator, "__call__", noted)
    monkeypatch.setattr(trainer, "can_share", lambda *_: True)  # which collates too
    order = [*rows[5:9], rows[5], rows[0]]
    run(tiny_folder, order, tmp_path / "stage")
    assert seen == [row.id for row in order]


# ---- a loss that is no number ------------------------------------------------------------------------------


@pytest.mark.parametrize("logging_steps", [1, 3, 50])
def test_a_loss_that_is_no_number_stops(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, logging_steps: int
) -> None:
    settings = config(learning_rate=1e30, logging_steps=logging_steps, max_grad_norm=0.0, warmup_steps=0)
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d, because of row\d"):
        run(tiny_folder, rows, tmp_path / "stage", settings)
    assert not (tmp_path / "stage" / "model").exists()


def test_the_rows_of_a_loss_that_is_no_number_are_named(
    tiny: VisionLanguageModel, questions: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Collator(tiny, pack_tokens=100)(questions)
    outputs = tiny.network(**{k: v for k, v in batch.items() if k not in ("labels", "rows")})
    assert not not_finite(outputs, batch["labels"], batch["rows"])
    place = 0
    for id, count in batch["rows"]:
        logits = outputs.logits.detach().clone()
        logits[place + count - 1] = float("nan")
        assert not_finite(SimpleNamespace(logits=logits), batch["labels"], batch["rows"]) == [id]
        place += count
    assert place == len(outputs.logits)


# ---- kills -------------------------------------------------------------------------------------------------


def test_it_learns_and_leaves_only_the_model(tiny_folder: Path, undisturbed: Path) -> None:
    curve = trainer.loss_curve(undisturbed)
    assert [step for step, _ in curve] == list(range(1, STEPS + 1))
    assert curve[-1][1] < curve[0][1]
    assert sorted(path.name for path in undisturbed.iterdir()) == ["logs", "loss.json", "model"]


def test_the_same_seed_gives_the_same_bits(
    tiny_folder: Path, rows: list[Example], undisturbed: Path, tmp_path: Path
) -> None:
    run(tiny_folder, rows, tmp_path / "stage")
    assert same(tmp_path / "stage", undisturbed)


class Killed(BaseException):
    pass


def interrupted(
    model_folder: Path, rows: list[Example], folder: Path, batch: int, settings: TrainConfig | None = None
) -> None:
    """Trains until the given batch is asked for."""
    asked, original = 0, Collator.__call__

    def counted(self: Collator, examples: list[Example]) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked == batch:
            raise Killed
        return original(self, examples)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Collator, "__call__", counted)
        patch.setattr(trainer, "can_share", lambda *_: True)  # which collates too
        with pytest.raises(Killed):
            run(model_folder, rows, folder, settings)
    assert not (folder / "model").exists()
    assert not (folder / "loss.json").exists()


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("checkpoint-*"))


@pytest.mark.parametrize("batch", [2, 4, 7])
def test_it_continues_to_the_same_bits(
    tiny_folder: Path, rows: list[Example], undisturbed: Path, tmp_path: Path, batch: int
) -> None:
    interrupted(tiny_folder, rows, tmp_path / "stage", batch)
    assert bool(checkpoints(tmp_path / "stage")) == (batch > 2)
    facts = run(tiny_folder, rows, tmp_path / "stage")
    assert facts["steps"] == STEPS
    assert same(tmp_path / "stage", undisturbed)


def spoiled(checkpoint: Path, how: str) -> None:
    """A checkpoint as a kill while it is written or removed may leave it."""
    if how == "no mark":
        (checkpoint / trainer.COMPLETE).unlink()
        (checkpoint / "trainer_state.json").write_text('{"global_st')
    if how == "a file is gone":
        (checkpoint / "optimizer.pt").unlink()
    if how == "empty":
        shutil.rmtree(checkpoint)
        checkpoint.mkdir()


@pytest.mark.parametrize("how", ["no mark", "a file is gone", "empty"])
def test_a_checkpoint_cut_off_is_not_used(
    tiny_folder: Path, rows: list[Example], undisturbed: Path, tmp_path: Path, how: str
) -> None:
    interrupted(tiny_folder, rows, tmp_path / "stage", 6)
    last = checkpoints(tmp_path / "stage")[-1]
    assert json.loads((last / trainer.COMPLETE).read_text())
    spoiled(last, how)
    run(tiny_folder, rows, tmp_path / "stage")
    assert same(tmp_path / "stage", undisturbed)


def test_the_checkpoint_before_a_cut_off_one_is_used(
    tiny_folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    interrupted(tiny_folder, rows, tmp_path / "stage", 6)
    last = checkpoints(tmp_path / "stage")[-1]
    shutil.copytree(last, last.with_name("checkpoint-6"))
    spoiled(last.with_name("checkpoint-6"), "no mark")
    found = trainer._last_whole_checkpoint(tmp_path / "stage" / "checkpoints")
    assert found == str(last)
    assert not last.with_name("checkpoint-6").exists()


def test_the_loss_curve_is_written_after_the_model(
    tiny_folder: Path, rows: list[Example], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds loss.json finds a whole model beside it."""

    def cut_off(self: VisionLanguageModel, folder: Path) -> None:
        folder.mkdir()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(auto.VisionLanguageModel, "save", cut_off)
        with pytest.raises(Killed):
            run(tiny_folder, rows, tmp_path / "stage")
    assert not (tmp_path / "stage" / "loss.json").exists()
    run(tiny_folder, rows, tmp_path / "stage")
    assert same(tmp_path / "stage", undisturbed)


def train_and_die(
    model_folder: Path, rows: list[Example], folder: Path, batch: int, settings: TrainConfig
) -> None:
    asked, original = 0, Collator.__call__

    def counted(self: Collator, examples: list[Example]) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked == batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, examples)

    Collator.__call__ = counted  # type: ignore[method-assign]
    run(model_folder, rows, folder, settings)


KILLED = {
    "all weights": config(),
    "adapters": LORA,
    # a checkpoint between two entries of the log
    "packed": TrainConfig(epochs=1, pack_tokens=200, arguments={**ARGUMENTS, "logging_steps": 5}),
}


@pytest.mark.parametrize(
    "name",
    ["adapters", *(pytest.param(name, marks=pytest.mark.slow) for name in KILLED if name != "adapters")],
)
def test_a_process_killed_at_any_step_changes_nothing(
    tiny_folder: Path, rows: list[Example], tmp_path: Path, name: str
) -> None:
    settings = KILLED[name]
    run(tiny_folder, rows, tmp_path / "whole", settings)
    batch = random.randint(1, STEPS)
    process = multiprocessing.get_context("spawn").Process(
        target=train_and_die, args=(tiny_folder, rows, tmp_path / "stage", batch, settings), daemon=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
        process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, f"killed at batch {batch}"
    run(tiny_folder, rows, tmp_path / "stage", settings)
    assert same(tmp_path / "stage", tmp_path / "whole"), f"killed at batch {batch}"


# ---- memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapters", [None, LoraConfig(rank=4, alpha=8)])
@pytest.mark.parametrize("pack_tokens", [None, 200])
def test_activations_computed_twice_teach_the_same(
    tiny_folder: Path,
    rows: list[Example],
    tmp_path: Path,
    adapters: LoraConfig | None,
    pack_tokens: int | None,
) -> None:
    """Plain descent, so that the weights differ by what the gradients differ."""
    forwards: Counter[str] = Counter()
    name, original = "", LlamaMLP.forward

    def counted(self: LlamaMLP, hidden: torch.Tensor) -> torch.Tensor:
        forwards[name] += 1
        return original(self, hidden)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlamaMLP, "forward", counted)
        patch.setattr(trainer, "can_share", lambda *_: True)  # which runs the model too
        for name, twice in (("once", False), ("twice", True)):
            arguments = {
                **ARGUMENTS,
                "optim": "sgd",
                "learning_rate": 0.05,
                "activation_checkpointing": twice,
            }
            settings = TrainConfig(
                epochs=1,
                lora=adapters,
                freeze=("vision_tower",),
                pack_tokens=pack_tokens,
                arguments=arguments,
            )
            run(tiny_folder, rows, tmp_path / name, settings)
    assert forwards["twice"] == 2 * forwards["once"] > 0
    first, second = weights(tmp_path / "once"), weights(tmp_path / "twice")
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], atol=1e-6, rtol=1e-5)
    before = load_file(tiny_folder / "model.safetensors")
    assert any(not torch.equal(value, before[key]) for key, value in first.items())


@pytest.mark.parametrize("settings", [config(), LORA])
def test_gathered_weights_make_a_whole_network(
    tiny_folder: Path, tmp_path: Path, settings: TrainConfig
) -> None:
    """What FSDP gathers in the end is put into a network of its own; FSDP itself needs GPUs."""
    model = auto.load(str(tiny_folder), FrameStore(tmp_path), device="cpu")
    trained = model.network
    if settings.lora is not None:
        trained = lora.wear(model.network, settings.lora, settings.freeze)
    torch.manual_seed(1)
    for value in trained.parameters():
        value.data += torch.randn_like(value)
    gathered = {name: value.clone() for name, value in trained.state_dict().items()}
    before = model.network
    found = trainer._whole(model, gathered, settings)
    assert model.network is not before
    assert found.state_dict().keys() == gathered.keys()
    assert all(torch.equal(value, gathered[name]) for name, value in found.state_dict().items())
    gathered.pop(next(name for name in gathered if "q_proj" in name))
    with pytest.raises(RuntimeError, match="q_proj"):
        trainer._whole(model, gathered, settings)
