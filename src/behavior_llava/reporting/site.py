"""The project page of a run: what was done, drawn and told for people who come from outside.

In: the same PageContent as the report's. Out: one static `index.html`, offline, without scripts. Called by
stages.py.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.reporting import tables
from behavior_llava.reporting.content import PageContent
from behavior_llava.reporting.page import environment, headline_tables, opened, sample_card

FILE_NAME = "index.html"
_OURS = '<meta name="generator" content="behavior-llava site">'


def write(content: PageContent, folder: Path) -> Path:
    """Writes the page into the folder (made where missing) and returns its path.

    Raises:
        UserError: the folder has an index.html that is not from here.
    """
    path = folder / FILE_NAME
    if path.exists() and _OURS not in path.read_text(encoding="utf-8", errors="replace"):
        raise UserError("was not written by this command", where=path, remedy="choose another --site")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(render(content), encoding="utf-8")
    return path


def render(content: PageContent) -> str:
    """The page as text."""
    summary: dict[str, Any] = opened(content.summary, content.opens_with)
    paper = resources.files("behavior_llava.data").joinpath("templates", "paper.bib")
    return (
        environment()
        .get_template("site.html.j2")
        .render(
            content=content,
            is_synthetic=content.synthetic or bool(summary.get("synthetic")),
            claims=tables.claims(summary)[:1],
            headlines=headline_tables(replace(content, summary=summary))[:1],
            samples=[sample_card(one) for one in content.samples],
            bibtex=paper.read_text(encoding="utf-8"),
            version=metadata.version("behavior-llava"),
        )
    )
