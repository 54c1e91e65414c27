"""A build whose captions and tags come from a served model and whose speech from a recognizer: what they say
ends in the rows, what is known is not asked again, and a key that is not there is told before any work.
"""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from behavior_llava.data.world import writers
from behavior_llava.data.world.content import draw_content

pytestmark = pytest.mark.slow

VIDEOS = 24


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """An endpoint that answers captions and tags: its url, and the questions it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            words = json.dumps(body["messages"])
            text = "Tags: sea, boat" if "tags" in words else "A boat of bob@mail.org at sea."
            message = {"role": "assistant", "content": text}
            answer = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield {"url": f"http://127.0.0.1:{server.server_port}/v1", "asked": asked}
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def config(served: dict[str, Any], whisper_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """Films without subtitles, and a sandbox that gives the small base its instruction data."""
    with (tmp_path / "films.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "file", "likes", "views"])
        for number in range(VIDEOS):
            rng = np.random.default_rng((3, number))
            film = writers.draw_film(draw_content(rng, is_filmed=True), rng)
            writers.save_video(str(tmp_path / f"{number}.mp4"), film, (3, number))
            table.writerow([number, f"{number}.mp4", 10 * number, 1000])
    nothing = {"images": 0, "videos": 0, "page_posts": 0, "instruction_videos": 0}
    few = {"instruction_images": 40, "instruction_texts": 10, "benchmark_train": 16, "benchmark_test": 16}
    columns = {"id": "id", "media_path": "file", "num_likes": "likes", "num_views": "views"}
    return {
        "name": "seen",
        "arms": ["behavior"],
        "collect": {
            "sources": [
                {"kind": "table", "settings": {"path": str(tmp_path / "films.csv"), "columns": columns}},
                {"kind": "sandbox", "settings": {**nothing, **few}},
            ]
        },
        "build": {
            "template": "paper",
            "behaviors": ["likes"],
            "filters": {"table": ["media_missing", "unreadable_media"]},
            "captions": {"endpoint": {"url": served["url"], "model": "eyes"}},
            "speech": {"model": str(whisper_folder), "device": "cpu"},
        },
        "base": {
            "tiny": {"hidden_size": 32, "num_layers": 1, "num_vision_layers": 1, "num_heads": 2},
            "train": {"epochs": 1, "arguments": {"per_device_train_batch_size": 8}},
        },
        "evaluate": {"tasks": [], "settings": ["zero_shot"], "primary": "zero_shot"},
    }


def test_what_is_written_and_heard_ends_in_the_rows(
    config: dict[str, Any], served: dict[str, Any], tmp_path: Path, finish: Callable[..., str]
) -> None:
    (tmp_path / "seen.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    finish(["build", "seen.yaml", "--out", "run"], cwd=tmp_path)
    rows = pq.read_table(tmp_path / "run/build/arms/seed0/behavior/examples.parquet").to_pylist()
    assert len(rows) >= VIDEOS // 2
    for row in rows:
        first, *_ = row["completion"].split("\n")
        assert first.startswith("Scene 1: A boat of (email) at sea. Foreground colors ")
        assert first.endswith(", tags sea, boat.")
        assert "\nSpeech: " in row["prompt"]
    scenes = sum(row["completion"].count("Scene ") for row in rows)
    # captions and tags of every scene of every split, each once
    asked = len(served["asked"])
    assert asked >= 2 * scenes
    assert asked % 2 == 0

    # another template says the same captions; nothing is asked that is known
    config["build"]["template"] = "lambda"
    config["build"]["captions"]["ask_tags"] = (
        "List what this image shows as a few short tags, separated by commas."
    )
    (tmp_path / "seen.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    finish(["build", "seen.yaml", "--out", "run"], cwd=tmp_path)
    again = pq.read_table(tmp_path / "run/build/arms/seed0/behavior/examples.parquet").to_pylist()
    assert all("The scene shows A boat of (email) at sea." in row["completion"] for row in again)
    # its question for a scene is another, so captions are asked anew, and tags are not
    assert len(served["asked"]) == asked + asked // 2
    before = len(served["asked"])
    finish(["build", "seen.yaml", "--out", "run", "--set", "build.media=none"], cwd=tmp_path)
    assert len(served["asked"]) == before


def test_a_key_that_is_not_there_is_told_before_any_work(
    config: dict[str, Any], tmp_path: Path, finish: Callable[..., str]
) -> None:
    config["build"]["captions"]["endpoint"]["key_env"] = "A_KEY_NOBODY_SET"
    (tmp_path / "seen.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    said = finish(["build", "seen.yaml", "--out", "run"], cwd=tmp_path, code=2)
    assert "A_KEY_NOBODY_SET" in said
    assert not (tmp_path / "run" / "collect").exists()
