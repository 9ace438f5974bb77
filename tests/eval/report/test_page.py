"""What the page says, and what it can never ask for."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from llava.eval.report.material import notices
from llava.eval.report.page import page
from llava.eval.report.text import text
from tests.eval.metrics.made import HARM, failures, records, row
from tests.eval.report import made
from tests.eval.report.test_markup import Seen

SERVED = '"model": {"target": "a server", "sha256": null, "options": {"model": "llava-v1.5-7b"}'


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page(made.material(made.small(tmp_path_factory.mktemp("runs") / "first"))).decode()


def test_the_policy_allows_only_what_is_in_the_page_and_names_it_by_its_hash(document: str) -> None:
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', document)[0].replace("&#x27;", "'")
    for kind in ("style", "script"):
        [body] = re.findall(rf"<{kind}>(.*?)</{kind}>", document, re.DOTALL)
        assert f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy


def test_nothing_in_the_page_leads_outside_it(document: str) -> None:
    seen = Seen(document)
    places = [value or "" for name, value in seen.attributes if name in ("src", "href", "action", "data", "srcset", "poster", "xlink:href")]
    assert places
    assert all(place.startswith("#") for place in places)
    assert not {"link", "iframe", "object", "embed", "form", "base"} & set(seen.tags)


def test_figures_tables_and_the_samples_are_there(document: str) -> None:
    seen = Seen(document)
    for words in (
        "Results at a glance",
        "Where it works and where it fails",
        "The check",
        "What safety costs",
        "Published numbers",
        "Every sample",
    ):
        assert words in seen.text
    assert {"svg", "polygon", "polyline", "rect", "table", "figure"} <= set(seen.tags)
    assert 'class="radar"' in document
    assert 'class="roc"' in document


def test_the_papers_misprints_are_explained(document: str) -> None:
    seen = Seen(document).text
    assert "Misprinted averages" in seen
    for printed, value in (("31.7", "48.1"), ("32.1", "48.8")):
        assert f"{value} (printed {printed})" in seen
        assert f"prints {printed}: its eight rows give {value}" in seen


def test_a_rule_of_phrases_is_called_one_wherever_it_decides(document: str) -> None:
    seen = Seen(document).text
    assert "keyword rule (no model)" in seen
    assert "gpt-4o/llm_binary_strict" in seen
    assert "not from a judge that reads" in seen


def test_judges_are_listed_with_what_they_took_and_how_far_they_agree(document: str) -> None:
    seen = Seen(document).text
    assert "Agreement of the judges" in seen
    assert "Krippendorff's alpha" in seen
    assert "gpt-4o/llm_binary_strict + keyword" in seen


def test_equal_runs_give_equal_pages(tmp_path: Path) -> None:
    one, other = (made.small(tmp_path / name / "run") for name in ("a", "b"))
    assert page(made.material(one)) == page(made.material(other))


def test_a_run_that_is_half_done_says_so_first(tmp_path: Path) -> None:
    rows = [row(f"a{i}", HARM) for i in range(3)]
    records(tmp_path, "vlsafe", "direct", rows, samples=8, of=8)
    failures(tmp_path, "vlsafe", "direct", ["lost"])
    found = made.material(tmp_path)
    for said in (Seen(page(found).decode()).text, text(found).decode()):
        assert "vlsafe is not finished: Direct has 3 of 8 answers" in said
        assert "vlsafe has no score for Direct" in said
        assert "llava judge" in said


def test_methods_and_benchmarks_of_different_models_in_one_folder_are_told_first(tmp_path: Path) -> None:
    """Sessions with other options may share a folder: each writes records of its own."""
    run = made.small(tmp_path)
    assert "cannot be compared" not in text(made.material(run)).decode()
    path = run / "vlsafe" / "ecso" / "records.jsonl"
    path.write_text(path.read_text("utf-8").replace("scripted:x", "scripted:y", 1), "utf-8")
    mixed = "ecso and direct cannot be compared: the model of the one is {'target': 'scripted:y'}, of the other {'target': 'scripted:x'}."
    found = made.material(run)
    assert f"vlsafe: {mixed}".replace("'", '"') in Seen(page(found).decode()).text
    assert mixed.replace("'", '"') in found.metrics.tasks[1].methods[1].notes
    path = run / "vlsafe" / "direct" / "records.jsonl"
    path.write_text(path.read_text("utf-8").replace("scripted:x", "scripted:y", 1), "utf-8")
    (told,) = [sentence for sentence in notices(made.material(run)) if "different models" in sentence]
    assert told.endswith('"scripted:x"}; vlsafe to {"options": {}, "sha256": null, "target": "scripted:y"}.')


def test_a_server_is_called_by_its_models_name(tmp_path: Path) -> None:
    run = made.small(tmp_path)
    for path in run.glob("*/*/records.jsonl"):
        served = path.read_text("utf-8").replace('"target": "scripted:x"', '"target": "a server"', 1)
        path.write_text(served.replace('"model": {"target": "a server", "sha256": null, "options": {}', SERVED, 1), "utf-8")
    assert text(made.material(run)).decode().startswith("# llava-v1.5-7b, direct and with ECSO\n")


def test_every_link_of_the_contents_leads_to_a_section(document: str, tmp_path: Path) -> None:
    """Also where a section has nothing to show: nobody judged these answers, so nothing stands beside the published ones."""
    records(tmp_path, "vlsafe", "direct", [row("a", HARM)])
    bare = page(made.material(tmp_path)).decode()
    for some, published in ((document, True), (bare, False)):
        [contents] = re.findall(r"<nav.*?</nav>", some, re.DOTALL)
        links = re.findall(r'href="#([^"]*)"', contents)
        assert ("published" in links) is published
        assert {value for name, value in Seen(some).attributes if name == "id"} >= set(links)


def test_a_session_without_an_end_is_told(tmp_path: Path) -> None:
    run = made.small(tmp_path)
    manifest = run / "manifest.json"
    session = '"sessions": [{"begun": "2026-01-01T00:00:00+00:00", "ended": null, "command": ["x", "--engine-option", "api_key=sk-1"]}]'
    manifest.write_text(manifest.read_text("utf-8").replace('"sessions": []', session), "utf-8")
    said = page(made.material(run)).decode()
    assert "begun 2026-01-01T00:00:00+00:00, has no end: it is still running, or was killed." in said
    assert "sk-1" not in said
    assert "api_key=…" in said


def test_the_text_holds_the_same_tables_and_no_markup_of_anyone_elses(tmp_path: Path) -> None:
    said = text(made.material(made.hostile(tmp_path))).decode("utf-8", "replace")
    assert "**What was measured, with 95 % intervals**" in said
    assert not re.search(r"(?<!\\)<(script|img|svg|iframe|a)\b", said)
    assert "](javascript" not in said
