"""samples.parquet: one row a sample, method and judge, for whoever computes on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from llava.errors import UserError
from llava.eval.metrics.material import Item, MethodRun
from llava.eval.metrics.result import Outcome
from llava.eval.report.material import Material
from llava.eval.rows import tokens_in

Json = dict[str, Any]


def parquet(material: Material) -> bytes:
    """The file's bytes; raises `UserError` where pyarrow is not installed."""
    try:
        import pyarrow as arrow
        from pyarrow.parquet import write_table
    except ImportError:
        raise UserError("samples.parquet needs pyarrow: pip install 'llava[eval]', or leave it out with --no-parquet.") from None
    text, count, real, truth = arrow.string(), arrow.int64(), arrow.float64(), arrow.bool_()
    kinds = {
        **dict.fromkeys(("task", "method", "judge", "id", "group", "category", "mode"), text),
        "number": count,
        **dict.fromkeys(("question", "picture", "image_sha256", "answer", "first_answer", "caption", "absent"), text),
        "flagged": truth,
        "released": text,
        "p_harmful": real,
        "seconds": real,
        **dict.fromkeys(("calls", "prompt_tokens", "completion_tokens"), count),
        "verdict": text,
        "value": real,
        **dict.fromkeys(("first_verdict", "stage", "reason"), text),
    }
    schema = arrow.schema(list(kinds.items()))
    buffer = io.BytesIO()
    write_table(arrow.Table.from_pylist(list(_rows(material)), schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def _rows(material: Material) -> Iterator[Json]:
    items = {
        (task.name, run.method, item.id): (item, run) for task in material.tasks for run in task.methods.values() for item in run.items
    }
    for one in material.metrics.outcomes:
        found = items.get((one.task, one.method, one.id))
        if found is not None:
            yield {name: _utf8(value) for name, value in _row(one, *found).items()}


def _row(one: Outcome, item: Item, run: MethodRun) -> Json:
    row: Json = item.row or {}
    measured = run.measured.get(one.id, {})
    return {
        "task": one.task,
        "method": one.method,
        "judge": one.judge,
        "id": one.id,
        "group": one.group,
        "category": item.category,
        "mode": item.mode,
        "number": item.number,
        "question": row.get("question"),
        "picture": row.get("picture"),
        "image_sha256": next(iter(row.get("images", {})), None),
        "answer": item.answer,
        "first_answer": item.text("draft"),
        "caption": item.text("caption"),
        "absent": item.absent or None,
        "flagged": item.flagged,
        "released": row.get("released"),
        "p_harmful": measured.get("p_harmful"),
        "seconds": measured.get("seconds"),
        "calls": len(row["steps"]) if row else None,
        "prompt_tokens": tokens_in(row, "prompt_tokens") if row else None,
        "completion_tokens": tokens_in(row, "completion_tokens") if row else None,
        "verdict": one.verdict,
        "value": one.value,
        "first_verdict": one.first,
        "stage": one.stage,
        "reason": one.reason or None,
    }


def _utf8(value: object) -> object:
    """Text that Parquet can hold: half a character is escaped, as in the records."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
