"""A server of someone else's that speaks OpenAI's format, asked through our own engine: the doctor sees what the guard would see."""

from __future__ import annotations

from llava.chat import Call, Reply
from llava.doctor.identify import check_let_in
from llava.doctor.model import check_model
from llava.doctor.report import Site
from llava.doctor.web import Web
from llava.engines import connect, generate

MOST_MODELS = 4  # that are asked without being named


async def look_at_server(site: Site, web: Web, model: str | None) -> None:
    """Examine it; raises `Trouble`."""
    listed = await web.get("/v1/models")
    check_let_in(listed, web, "key")
    names = [row["id"] for row in listed.fields.get("data", []) if isinstance(row, dict) and isinstance(row.get("id"), str)]
    if model is None and not names:
        site.wrong("no_models", "It lists no model.")
    elif model is not None and names and model not in names:
        site.note("models", f"It does not list {model}; it lists {', '.join(names[:20])}.")
    if len(names) > MOST_MODELS and model is None:
        site.note("models", f"It lists {len(names)} models; the first is asked. --model chooses another.")
        names = names[:1]
    for name in names if model is None else [model]:
        key = web.key or "none"  # else the engine would look for one by itself
        engine = connect(f"{web.address.url}/v1", model=name, api_key=key, timeout=web.seconds, retries=0, check_images=False)

        async def ask(call: Call) -> Reply:
            return await generate(engine, call)  # noqa: B023 - called within this round

        try:
            await check_model(site, name, ask)
        finally:
            await engine.close()
