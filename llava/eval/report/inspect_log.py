"""A run as logs of Inspect (inspect.aisi.org.uk), one for each task and method, so that its viewer opens them.

    inspect view --log-dir runs/first/inspect

An `.eval` log is a zip of JSON: a header, a line of summary for each sample, and each sample with its messages, scores and events, of which
each step of the defence is one call of the model. Written here without Inspect, which need not be installed; version 2 of its format.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from llava.eval.metrics.material import Item, MethodRun, TaskRun
from llava.eval.metrics.result import Measured, Outcome
from llava.eval.report.material import Material
from llava.eval.report.words import STEPS
from llava.eval.rows import tokens_in

Json = dict[str, Any]
FORMAT = 2
MOMENT = (1980, 1, 1, 0, 0, 0)  # of every file in the zip: equal runs give equal logs
_HALVES = re.compile("[\ud800-\udfff]")  # of characters: no JSON that others read may hold them
_UNNAMED = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # no name of a file in a zip may
TARGETS = {"harmless": "harmless", "refusals": "answered"}


def logs(material: Material) -> dict[str, bytes]:
    """File name -> log."""
    found = {}
    for task in material.tasks:
        told: dict[tuple[str, str], list[Outcome]] = {}
        for one in material.metrics.outcomes:
            if one.task == task.name:
                told.setdefault((one.method, one.id), []).append(one)
        for run in task.methods.values():
            found[f"{task.name}-{run.method}.eval"] = _log(material, task, run, told)
    return found


def _log(material: Material, task: TaskRun, run: MethodRun, told: Mapping[tuple[str, str], list[Outcome]]) -> bytes:
    items = [item for item in run.items if item.row is not None]
    begun = _begun(material)
    samples = [_sample(material, task, run, item, told.get((run.method, item.id), []), begun) for item in items]
    header = _header(material, task, run, items, begun)
    summaries = [_summary(sample) for sample in samples]
    start = {"version": FORMAT, "eval": header["eval"], "plan": header["plan"]}
    members: list[tuple[str, object]] = [("_journal/start.json", start)]
    members += [(f"samples/{sample['id']}_epoch_1.json", sample) for sample in samples]
    members += [("_journal/summaries/1.json", summaries), ("summaries.json", summaries), ("header.json", header)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members:
            text = _HALVES.sub("\ufffd", json.dumps(value, ensure_ascii=False, allow_nan=False))
            archive.writestr(zipfile.ZipInfo(name, MOMENT), text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def sample_id(name: str) -> str:
    """A sample's id as the log has it, which is also a file's name in it: the same but for controls and halves of characters."""
    return _UNNAMED.sub("\ufffd", name)


def _begun(material: Material) -> str:
    return next((str(one["begun"]) for one in material.manifest["sessions"] if one.get("begun")), "1970-01-01T00:00:00+00:00")


def _ended(material: Material) -> str:
    """When the last session that asked the model ended; a judge's sessions come after."""
    told = [str(one["ended"]) for one in material.manifest["sessions"] if one.get("ended") and "data" in one]
    return told[-1] if told else _begun(material)


def _header(material: Material, task: TaskRun, run: MethodRun, items: Sequence[Item], begun: str) -> Json:
    measured = next((m for one in material.metrics.tasks if one.task == task.name for m in one.methods if m.method == run.method), None)
    header = run.header
    name = f"{task.name}/{run.method}"
    spec = {
        "eval_id": _name("eval", material.folder.name, name, begun),
        "run_id": _name("run", material.folder.name, begun),
        "created": begun,
        "task": name,
        "task_id": _name("task", name),
        "task_version": 0,
        "task_display_name": f"{task.task.about.title} – {run.method}",
        "task_args": header["task"]["options"],
        "solver": run.method,
        "solver_args": header["method"],
        "dataset": {"name": task.name, "samples": task.samples, "sample_ids": [sample_id(item.id) for item in items]},
        "model": material.model,
        "config": {"epochs": 1},
        "packages": {"llava": header["versions"]["llava"]},
        "metadata": {"model": header["model"], "data": header["data"], "git": header["git"]},
    }
    whole = len(items) == task.samples
    return {
        "version": FORMAT,
        "status": "success" if whole else "cancelled",
        "eval": spec,
        "plan": {"name": run.method, "steps": [], "config": {}},
        "results": _results(measured, task.samples, len(items)),
        "stats": {"started_at": begun, "completed_at": _ended(material), "model_usage": {}},
    }


def _results(measured: Measured | None, samples: int, done: int) -> Json:
    """Every score that has a value, as a metric of the one who decided it."""
    by_judge: dict[str, Json] = {}
    for score in measured.scores if measured else ():
        if score.value is None:
            continue
        told = {"low": score.low, "high": score.high, "interval": score.interval, "n": score.n, "of": score.of, "unit": score.unit}
        place = by_judge.setdefault(score.judge, {"name": score.judge, "scorer": score.judge, "params": {}, "metrics": {}})
        place["metrics"][score.name] = {"name": score.name, "value": score.value, "params": {}, "metadata": told}
    return {"total_samples": samples, "completed_samples": done, "scores": list(by_judge.values())}


def _sample(material: Material, task: TaskRun, run: MethodRun, item: Item, told: Sequence[Outcome], begun: str) -> Json:
    row = item.row or {}
    place = f"{task.name} {run.method} {item.id}"
    measured = run.measured.get(item.id, {})
    seconds = [step.get("seconds") for step in measured.get("steps", [])]
    model = material.model
    usage = _usage(tokens_in(row, "prompt_tokens"), tokens_in(row, "completion_tokens"))
    asked = [{"role": "user", "text": row["question"], "images": list(row["images"])[:1] if row["picture"] else []}]
    question = _messages(asked, material.pictures.urls, place)
    answer = {"id": _name(place, "answer"), "role": "assistant", "content": row["answer"], "source": "generate", "model": model}
    output = {"model": model, "choices": [{"message": answer, "stop_reason": "stop"}], "completion": row["answer"]}
    target = TARGETS.get(task.task.scored_by) or str(item.meta.get("answer", ""))
    about = {name: row[name] for name in ("category", "mode", "group", "number", "picture", "harmful", "released", "images", "meta")}
    events = [
        event
        for i, step in enumerate(row["steps"])
        for event in _events(step, i, f"{place} {i}", (model, seconds[i] if i < len(seconds) else None, begun), material.pictures.urls)
    ]
    return {
        "id": sample_id(item.id),
        "epoch": 1,
        "input": question,
        "target": target,
        "messages": [*question, answer],
        "output": output,
        "scores": {one.judge: _score(one, row["answer"]) for one in told if one.value is not None},
        "metadata": {**about, "p_harmful": measured.get("p_harmful"), "undecided": {o.judge: o.reason for o in told if o.value is None}},
        "store": {},
        "events": events,
        "model_usage": {} if usage is None else {model: usage},
        "total_time": measured.get("seconds"),
        "attachments": {},
    }


def _usage(put: int | None, made: int | None) -> Json | None:
    """Tokens; None where a server does not tell them."""
    return None if put is None or made is None else {"input_tokens": put, "output_tokens": made, "total_tokens": put + made}


def _score(one: Outcome, answer: str) -> Json:
    told = {"verdict": one.verdict, "first": one.first, "stage": one.stage}
    return {"value": one.value, "answer": answer, "explanation": one.reason or one.verdict, "metadata": told, "history": []}


def _events(step: Json, place: int, name: str, told: tuple[str, float | None, str], pictures: Mapping[str, str]) -> list[Json]:
    """A step as a span with one call of the model in it."""
    model, seconds, begun = told
    said = {"id": _name(name, "reply"), "role": "assistant", "content": step["reply"], "source": "generate", "model": model}
    stop = "max_tokens" if step["finish_reason"] == "length" else "stop"
    output: Json = {"model": model, "choices": [{"message": said, "stop_reason": stop}], "completion": step["reply"], "time": seconds}
    if (usage := _usage(step["prompt_tokens"], step["completion_tokens"])) is not None:
        output["usage"] = usage
    sampling = step["sampling"]
    config = {
        "temperature": sampling["temperature"],
        "top_p": sampling["top_p"],
        "max_tokens": sampling["max_tokens"],
        "seed": sampling["seed"],
    }
    span = _name(name, "span")
    common = {"span_id": span, "timestamp": begun, "working_start": float(place)}
    call = {
        "uuid": _name(name, "call"),
        **common,
        "event": "model",
        "model": model,
        "input": _messages(step["messages"], pictures, name),
        "tools": [],
        "tool_choice": "none",
        "config": {key: value for key, value in config.items() if value is not None},
        "output": output,
        "working_time": seconds,
    }
    title = f"{place + 1} {STEPS.get(step['step'], step['step'])}"
    opened = {"uuid": _name(name, "begin"), **common, "event": "span_begin", "id": span, "type": "solver", "name": title}
    return [opened, call, {"uuid": _name(name, "end"), **common, "event": "span_end", "id": span}]


def _messages(messages: Sequence[Json], pictures: Mapping[str, str], name: str) -> list[Json]:
    """Chat messages; a picture is its thumbnail where there is one, else its hash in words."""
    found = []
    for i, message in enumerate(messages):
        images = [_image(hashed, pictures) for hashed in message["images"]]
        content = [*images, {"type": "text", "text": message["text"]}] if images else message["text"]
        found.append({"id": _name(name, "asked", str(i)), "role": message["role"], "content": content})
    return found


def _image(hashed: str, pictures: Mapping[str, str]) -> Json:
    if (url := pictures.get(hashed)) is not None:
        return {"type": "image", "image": url, "detail": "auto"}
    return {"type": "text", "text": f"[image {hashed[:12]}]"}


def _summary(sample: Json) -> Json:
    """What the list of samples shows."""
    first = [{**message, "content": _words(message["content"])} for message in sample["input"]]
    keys = ("id", "epoch", "target", "scores", "model_usage", "total_time")
    about = {name: sample["metadata"][name] for name in ("category", "mode", "harmful", "released")}
    return {
        **{key: sample[key] for key in keys},
        "input": first,
        "metadata": about,
        "completed": True,
        "message_count": len(sample["messages"]),
    }


def _words(content: object) -> object:
    if not isinstance(content, list):
        return content
    return [part if part["type"] == "text" else {"type": "text", "text": "(Image)"} for part in content]


def _name(*words: str) -> str:
    """An identifier of 22 characters, the same in every export."""
    return hashlib.sha256("\0".join(words).encode("utf-8", "backslashreplace")).hexdigest()[:22]
