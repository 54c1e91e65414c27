"""Sound out of files and words out of sound: the right length and pitch, a reason for what is broken, and the
same words each time.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior_llava.core import media
from behavior_llava.core.config import check
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import MediaFault, read_audio
from behavior_llava.core.workers import Workers
from behavior_llava.data.describing import sound_of
from behavior_llava.data.world import content, writers
from behavior_llava.models.auto import weights_hash
from behavior_llava.models.speech import Recognizer, SpeechConfig
from behavior_llava.models.speech import check as check_model


def tone(hertz: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def save(
    path: Path,
    wave: np.ndarray,
    *,
    rate: int = 44_100,
    codec: str = "aac",
    layout: str = "mono",
    said_rate: int | None = None,
) -> Path:
    """A container with one picture and this sound [T] in every channel."""
    form = "s16" if codec == "pcm_s16le" else "flt" if codec == "pcm_f32le" else "fltp"
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream("mpeg4", rate=1)
        video.width = video.height = 16
        video.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate=said_rate or rate, layout=layout)
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(video.encode(picture))
        container.mux(video.encode())
        channels = len(av.AudioLayout(layout).channels)
        values = (wave * 32767).astype(np.int16) if form == "s16" else wave.astype(np.float32)
        for start in range(0, len(values), 1024):
            part = values[None, start : start + 1024].repeat(channels, 0)
            packed = part if form == "fltp" else part.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), format=form, layout=layout)
            frame.sample_rate, frame.pts = said_rate or rate, start
            frame.time_base = Fraction(1, said_rate or rate)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def peak_hertz(wave: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(np.argmax(spectrum) * rate / len(wave))


def reason(path: Path, *, max_s: float = 500.0) -> str:
    with pytest.raises(MediaFault) as caught:
        read_audio(path, max_s=max_s)
    return caught.value.reason


# ---- sound -------------------------------------------------------------------------------------------------


def test_the_sound_of_a_sandbox_video_has_its_length_and_its_tones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    film = writers.draw_film(content.draw_content(rng), rng)
    writers.save_video(str(tmp_path / "x.mp4"), film, (0, 1))
    wave = read_audio(tmp_path / "x.mp4", max_s=500)
    assert wave is not None
    assert wave.dtype == np.float32
    assert wave.ndim == 1
    # the sandbox leaves out what does not fill a last frame of 1024 samples at 8000 a second
    assert film.duration_s - 0.15 <= len(wave) / 16_000 <= film.duration_s + 0.15
    start_s, heard = 0.0, []
    for shot in film.shots:
        middle = wave[int((start_s + 0.2) * 16_000) : int((start_s + shot.seconds - 0.3) * 16_000)]
        heard.append(peak_hertz(middle, 16_000))
        start_s += shot.seconds
    assert heard == pytest.approx([220, 330, 440], abs=5)


@settings(max_examples=12, deadline=None)
@given(
    hertz=st.floats(150, 3000),
    rate=st.sampled_from([8000, 16_000, 22_050, 44_100, 48_000]),
    wanted=st.sampled_from([8000, 16_000, 24_000]),
    layout=st.sampled_from(["mono", "stereo"]),
    codec=st.sampled_from(["aac", "pcm_s16le"]),
)
def test_resampling_keeps_pitch_and_length(
    tmp_path_factory: pytest.TempPathFactory, hertz: float, rate: int, wanted: int, layout: str, codec: str
) -> None:
    path = tmp_path_factory.mktemp("tones") / "x.mkv"
    save(path, tone(hertz, 1.0, rate), rate=rate, codec=codec, layout=layout)
    wave = read_audio(path, rate=wanted, max_s=500)
    assert wave is not None
    assert len(wave) / wanted == pytest.approx(1.0, abs=0.15)
    middle = wave[wanted // 5 : wanted * 4 // 5]
    assert peak_hertz(middle, wanted) == pytest.approx(hertz, abs=3)
    # the loudness, not the highest peak: AAC adds clicks of its own
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / np.sqrt(2), abs=0.02)


def test_sound_that_needs_no_resampling_comes_as_it_is(tmp_path: Path) -> None:
    wave = tone(300, 0.5, 16_000)
    found = read_audio(save(tmp_path / "x.mkv", wave, rate=16_000, codec="pcm_f32le"), max_s=500)
    assert found is not None
    np.testing.assert_allclose(found, wave, atol=1e-6)


def test_opposite_channels_cancel_out(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="stereo")
        wave = (tone(300, 0.5, 16_000) * 32767).astype(np.int16)
        both = np.stack([wave, -wave], 1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        frame.sample_rate = 16_000
        container.mux(sound.encode(frame))
    found = read_audio(path, max_s=500)
    assert found is not None
    assert len(found) == 8000
    assert np.abs(found).max() < 1e-3


def test_a_file_without_sound_has_none(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=1)
        video.width = video.height = 16
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(video.encode(picture))
        container.mux(video.encode())
    assert read_audio(tmp_path / "x.mp4", max_s=500) is None


def test_a_track_that_holds_nothing_is_none(tmp_path: Path) -> None:
    path = save(tmp_path / "x.avi", np.empty(0, np.float32))
    with av.open(str(path)) as container:
        assert container.streams.audio
    assert read_audio(path, max_s=500) is None


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.8])
def test_a_file_that_is_cut_off_has_a_reason(tmp_path: Path, share: float) -> None:
    whole = save(tmp_path / "whole.mp4", tone(300, 6.0, 44_100)).read_bytes()
    (tmp_path / "x.mp4").write_bytes(whole[: int(share * len(whole))])
    assert reason(tmp_path / "x.mp4") == "sound_broken"


def test_of_a_cut_file_the_whole_part_can_still_be_heard(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.mp4", tone(300, 6.0, 44_100)).read_bytes()
    (tmp_path / "x.mp4").write_bytes(whole[: int(0.8 * len(whole))])
    heard = read_audio(tmp_path / "x.mp4", max_s=2.0)
    assert heard is not None
    assert len(heard) == 32_000


def test_what_is_no_media_or_not_there_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/x.mp4\n")
    assert reason(tmp_path / "x.mp4") == "sound_broken"
    assert reason(tmp_path / "list.mp4") == "sound_broken"
    assert reason(tmp_path / "none.mp4") == "media_missing"


def test_damaged_bytes_give_sound_or_a_reason_and_nothing_else(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.mp4", tone(300, 1.0, 16_000), rate=16_000).read_bytes()
    rng, outcomes = np.random.default_rng(0), set()
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(damaged), 40):
            damaged[place] = rng.integers(256)
        (tmp_path / "x.mp4").write_bytes(damaged)
        try:
            wave = read_audio(tmp_path / "x.mp4", max_s=5)
        except MediaFault as fault:
            outcomes.add(fault.reason)
        else:
            outcomes.add("fine")
            assert wave is None or (np.isfinite(wave).all() and len(wave) <= 5 * 16_000)
    assert "sound_broken" in outcomes
    assert outcomes <= {"fine", "sound_broken", "decoder_out_of_memory"}


def test_endless_sound_ends_where_it_is_told_to(tmp_path: Path) -> None:
    path = save(tmp_path / "x.mkv", tone(300, 20.0, 16_000), rate=16_000, codec="pcm_s16le")
    heard = read_audio(path, max_s=1.5)
    assert heard is not None
    assert len(heard) == 24_000


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_broken_sound(tmp_path: Path, value: float) -> None:
    wave = tone(300, 0.5, 16_000)
    wave[4000] = value
    assert reason(save(tmp_path / "x.mkv", wave, rate=16_000, codec="pcm_f32le")) == "sound_broken"


def test_sound_beyond_full_scale_is_cut_to_it(tmp_path: Path) -> None:
    wave = np.full(8000, 1e30, np.float32)
    heard = read_audio(save(tmp_path / "x.mkv", wave, rate=16_000, codec="pcm_f32le"), max_s=500)
    assert heard is not None
    assert set(heard.tolist()) == {1.0}


def test_a_rate_that_would_swell_to_any_size_is_broken(tmp_path: Path) -> None:
    wave = tone(300, 1.0, 16_000)
    path = save(tmp_path / "x.mkv", wave, rate=16_000, codec="pcm_s16le", said_rate=1)
    assert reason(path, max_s=1e9) == "sound_broken"


def test_sound_is_read_in_a_process_that_can_be_killed(tmp_path: Path) -> None:
    path = save(tmp_path / "x.mp4", tone(300, 1.0, 16_000), rate=16_000)
    (tmp_path / "y.mp4").write_bytes(b"no video")
    right = media.sha256(path)
    jobs = [
        (str(path), right, 16_000, 500.0),
        (str(tmp_path / "y.mp4"), media.sha256(tmp_path / "y.mp4"), 16_000, 500.0),
        (str(path), "0" * 64, 16_000, 500.0),
    ]
    with Workers(sound_of, processes=1) as workers:
        heard, broken, other = workers.map(jobs)
    np.testing.assert_array_equal(heard, read_audio(path, max_s=500))
    assert broken.reason == "sound_broken"
    assert other.reason == "media_changed"


# ---- words -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def recognizer(whisper_folder: Path) -> Recognizer:
    return Recognizer(SpeechConfig(model=str(whisper_folder), device="cpu"))


def test_sound_becomes_words_and_the_same_sound_the_same_words(
    recognizer: Recognizer, whisper_folder: Path
) -> None:
    wave = tone(300, 2.0, recognizer.rate)
    said = recognizer.transcribe(wave)
    assert said
    assert said == " ".join(said.split())
    assert recognizer.transcribe(wave) == said
    again = Recognizer(SpeechConfig(model=str(whisper_folder), device="cpu"))
    assert again.transcribe(wave) == said
    assert again.identity == recognizer.identity
    noise = np.random.default_rng(0).uniform(-1, 1, 32_000).astype(np.float32)
    assert recognizer.transcribe(noise) != said


def test_sound_longer_than_a_window_is_heard_to_its_end(recognizer: Recognizer) -> None:
    begin, end = tone(300, 35.0, recognizer.rate), tone(300, 10.0, recognizer.rate)
    noise = np.random.default_rng(0).uniform(-1, 1, len(end)).astype(np.float32)
    said = {recognizer.transcribe(np.concatenate([begin, last])) for last in (end, noise)}
    assert len(said) == 2
    assert None not in said


@pytest.mark.parametrize("wave", [np.empty(0, np.float32), np.full(16_000, 1e-4, np.float32)])
def test_silence_says_nothing(recognizer: Recognizer, wave: np.ndarray) -> None:
    assert recognizer.transcribe(wave) is None


@pytest.mark.parametrize("text", ["", "  \n "])
def test_blank_text_is_nothing_said(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(recognizer, "_pipeline", _Writes(recognizer._pipeline, text))
    assert recognizer.transcribe(tone(300, 1.0, 16_000)) is None


class _Writes:
    def __init__(self, real: object, text: str) -> None:
        self.feature_extractor, self._text = real.feature_extractor, text  # type: ignore[attr-defined]

    def __call__(self, *_: object, **__: object) -> dict[str, str]:
        return {"text": self._text}


def test_a_language_is_told_to_the_model_and_an_unknown_one_refused(
    whisper_folder: Path, recognizer: Recognizer
) -> None:
    wave = tone(300, 2.0, recognizer.rate)
    said = {
        language: Recognizer(
            SpeechConfig(model=str(whisper_folder), language=language, device="cpu")
        ).transcribe(wave)
        for language in ("en", "de")
    }
    assert said["en"] != said["de"]
    with pytest.raises(UserError, match=r"'english'; it knows de, en"):
        Recognizer(SpeechConfig(model=str(whisper_folder), language="english", device="cpu")).transcribe(wave)
    check_model(str(whisper_folder), "de")
    for language in ("english", "DE", ""):
        with pytest.raises(UserError, match=r"it knows de, en"):
            check_model(str(whisper_folder), language)


def refused(model: str) -> None:
    """Before the work begins, and by whoever loads it all the same."""
    with pytest.raises(UserError, match="cannot be loaded as a speech recognizer"):
        check_model(model)
    with pytest.raises(UserError, match="cannot be loaded as a speech recognizer"):
        Recognizer(SpeechConfig(model=model, device="cpu")).transcribe(tone(300, 1.0, 16_000))


def test_what_is_no_recognizer_is_refused(tmp_path: Path, tiny_folder: Path, whisper_folder: Path) -> None:
    refused(str(tmp_path / "none"))
    refused(str(tiny_folder))
    for name in whisper_folder.iterdir():
        if name.suffix != ".safetensors":
            (tmp_path / name.name).write_bytes(name.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    refused(str(tmp_path))
    with pytest.raises(UserError, match="no safetensors"):
        _ = Recognizer(SpeechConfig(model=str(tmp_path), device="cpu")).identity


def test_a_recognizer_that_brings_its_own_code_is_refused(tmp_path: Path, whisper_folder: Path) -> None:
    for name in whisper_folder.iterdir():
        (tmp_path / name.name).write_bytes(name.read_bytes())
    written = json.loads((tmp_path / "config.json").read_text())
    written |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(written))
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    refused(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong in ({"max_s": 0}, {"max_s": float("inf")}, {"model": ""}, {"chunk_s": 3}):
        with pytest.raises(UserError):
            check(SpeechConfig, {"model": "x", **wrong}, where="build.speech")


# ---- what is loaded, and when ------------------------------------------------------------------------------


def test_who_only_reads_rows_loads_no_model(whisper_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr(transformers, "pipeline", refuse)
    ears = Recognizer(SpeechConfig(model=str(whisper_folder), device="cpu"))
    assert ears.identity == weights_hash(whisper_folder)
    with pytest.raises(AssertionError, match="the model is loaded"):
        ears.transcribe(tone(300, 1.0, 16_000))


def test_other_weights_are_another_recognizer(tmp_path: Path, whisper_folder: Path) -> None:
    for name in whisper_folder.iterdir():
        (tmp_path / name.name).write_bytes(name.read_bytes())
    first = Recognizer(SpeechConfig(model=str(tmp_path), device="cpu")).identity
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert Recognizer(SpeechConfig(model=str(tmp_path), device="cpu")).identity != first


def test_of_a_name_on_the_hub_the_commit_is_settled_once(
    whisper_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config alone is asked for; the weights that are loaded later are of the same commit."""
    import transformers

    asked: list[object] = []
    original = transformers.AutoConfig.from_pretrained

    def from_pretrained(name: str, **more: object) -> object:
        asked.append((name, more))
        found = original(str(whisper_folder))
        found._commit_hash = "c0ffee"
        return found

    loaded: list[dict[str, object]] = []

    def pipeline(*_: object, **more: object) -> object:
        loaded.append(more)
        raise OSError("no such place")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", from_pretrained)
    monkeypatch.setattr(transformers, "pipeline", pipeline)
    ears = Recognizer(SpeechConfig(model="somebody/ears", device="cpu"))
    assert (asked, loaded) == ([], [])
    assert ears.identity == ears.identity == "somebody/ears@c0ffee"
    assert len(asked) == 1
    with pytest.raises(UserError, match="cannot be loaded as a speech recognizer"):
        ears.transcribe(tone(300, 1.0, 16_000))
    assert (loaded[0]["model"], loaded[0]["revision"]) == ("somebody/ears", "c0ffee")


def test_a_commit_that_nobody_knows_is_no_identity(
    whisper_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    found = transformers.AutoConfig.from_pretrained(str(whisper_folder))
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *_, **__: found)
    with pytest.raises(UserError, match="does not tell which commit"):
        _ = Recognizer(SpeechConfig(model="somebody/ears", device="cpu")).identity
