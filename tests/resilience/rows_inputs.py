"""Rows 23 to 26 and 35: bodies that are no JSON, values of wrong types and ranges, images that are no base64, fields of power."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from typing import Any

import psutil

from tests.resilience.matrix import row
from tests.resilience.stack import KEY, Stack
from tests.resilience.talk import CHAT, ask, bearer, check_answer, question, request, send
from tests.resilience.tally import Tally, expect
from tests.serve.gateway.fuzzing import Seen, apart, fuzz
from tests.serve.gateway.running import data_url

ROUTES = (CHAT, "/v1/guard/check", "/v1/moderations")
MIB = 2**20
POWERS = """
chat_template chat_template_kwargs guided_json guided_regex guided_choice guided_grammar guided_decoding_backend
structured_outputs cache_salt mm_hashes mm_processor_kwargs multi_modal_data prompt_embeds prompt_token_ids api_base
base_url api_key request_id rid add_generation_prompt continue_final_message echo best_of beam_width use_beam_search
logit_bias logits_processors skip_special_tokens spaces_between_special_tokens include_stop_str_in_output min_tokens
ignore_eos priority kv_transfer_params vllm_xargs lora_path documents functions function_call prediction
web_search_options reasoning_effort verbosity tools_choice session_params return_hidden_states custom_params
bootstrap_host data_parallel_rank extra_body extra_headers extra_query timeout policy worker conv_mode prompt images
llava __class__ __proto__ constructor
"""


@row(
    23,
    "bodies: no JSON, another type, deep, long numbers, keys twice, half characters, too large, compressed",
    "400, 413, 415; memory does not go on growing",
)
async def bodies(stack: Stack, tally: Tally) -> None:
    good = json.dumps(question("?"))
    bad: list[bytes] = [
        *(b"", b" ", b"{", b"}", b"null", b"[]", b'"x"', b"0", b"\xff\xfe", b"\xef\xbb\xbf{}", b"not json", b"{} {}", b"{'a': 1}"),
        *(b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a": ' + b"9" * MIB + b"}"),
        *(b'{"model": "tiny", "model": "tiny"}', b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}', b'{"a": "\xed\xa0\x80"}'),
        *(good[:cut].encode() for cut in range(1, len(good) - 1, 7)),
        *(good.replace('"model"', f'"model": "tiny", {mark} "model"', 1).encode() for mark in ("", "//x\n", "/**/", ",")),
        b'{"a": [' + b"1," * 600_000 + b"1]}",
    ]
    memory = psutil.Process(stack.gateway.process.pid).memory_info
    before = memory().rss
    for body, path in stack.share(itertools.product(bad, ROUTES)):
        with tally.trial(f"body {body[:20]!r}"):
            check_answer(
                await ask(stack.gateway.port, "POST", path, body, bearer(KEY)), {400, 413, 415}, {"invalid_json", "unsupported_media_type"}
            )
    kinds = (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "",
        "application/json, text/html",
    )
    for kind, path in itertools.product(kinds, ROUTES):
        with tally.trial(f"content-type {kind}"):
            answer = await ask(stack.gateway.port, "POST", path, question("?"), {**bearer(KEY), "content-type": kind})
            check_answer(answer, {415}, {"unsupported_media_type"})
    once = 0
    for _ in range(stack.many(20, 1)):
        for path in ROUTES:
            await _too_large(stack, tally, path)
        once = once or memory().rss
    with tally.trial("memory"):
        grown = memory().rss - once
        expect(grown < 64 * MIB, f"{grown / MIB:+.0f} MiB after the first round")
    tally.figures["memory"] = f"{(once - before) / MIB:+.0f} MiB once, {grown / MIB:+.0f} MiB by all that came after"


async def _too_large(stack: Stack, tally: Tally, path: str) -> None:
    port, key = stack.gateway.port, bearer(KEY)
    with tally.trial("a body that says it is too large"):
        check_answer(await send(port, request("POST", path, b"{", {**key, "content-length": str(21 * MIB)})), {413}, {"body_too_large"})
    with tally.trial("a body in pieces that is too large"):
        head = request("POST", path, b"", {**key, "content-type": "application/json"}).replace(
            b"content-length: 0", b"transfer-encoding: chunked"
        )
        answer = await send(port, head + (b"%x\r\n" % MIB + b"x" * MIB + b"\r\n") * 25)
        expect(answer.status in (0, 413), f"status {answer.status}")  # closed while we still send
    with tally.trial("a bomb of zeros"):
        bomb = gzip.compress(b"0" * 50 * MIB)
        check_answer(await ask(port, "POST", path, bomb, {**key, "content-encoding": "gzip"}), {415}, {"unsupported_encoding"})


@row(
    24,
    "requests drawn from the gateway's own document, half of them against it (schemathesis)",
    "no 5xx; every answer as the document says",
)
async def schema_fuzz(stack: Stack, tally: Tally) -> None:
    seen = await asyncio.to_thread(apart, _asked, stack.many(10_000, 200), 7, stack.gateway.url)
    tally.tried += seen.total()
    wrong = sum(count for (_, _, status), count in seen.items() if status >= 500)
    tally.lost += wrong
    statuses: dict[int, int] = {}
    for (_, _, status), count in seen.items():
        statuses[status] = statuses.get(status, 0) + count
    tally.figures["statuses"] = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))


def _asked(cases: int, number: int, url: str) -> Seen:
    return fuzz(url, cases, number, key=KEY)


@row(25, "numbers: NaN, infinite, negative, huge, texts, truths, null in lists; n, max_tokens, stop", "400 that names the field")
async def numbers(stack: Stack, tally: Tally) -> None:
    odd: list[str] = [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1",
        "1e308",
        "10e17",
        '"0.5"',
        "true",
        "[]",
        "{}",
        '"NaN"',
        "9" * 500,
        "-0.5",
    ]
    fields = ("temperature", "top_p", "n", "max_tokens", "max_completion_tokens", "seed", "top_logprobs", "frequency_penalty", "logprobs")
    allowed = {("seed", "-1"), ("logprobs", "true")}
    cases = [(name, value) for name, value in itertools.product(fields, odd) if (name, value) not in allowed]
    cases += [
        ("max_tokens", "0"),
        ("max_tokens", "1000000000"),
        ("n", "0"),
        ("n", "5"),
        ("n", "1.5"),
        ("best_of", "2"),
        ("seed", str(2**63)),
    ]
    cases += [("temperature", "2.01"), ("top_p", "0"), ("top_p", "1.01"), ("top_logprobs", "21"), ("stream", '"yes"')]
    stops: list[Any] = ["", "x" * 65, ["x"] * 5, ["x"] * 1000, [""], [None], [1], {}, 3, True]
    cases += [("stop", json.dumps(value)) for value in stops]
    for (name, value), path in stack.share(itertools.product(cases, ROUTES[:1])):
        body = json.dumps(question("?"))[:-1] + f', "{name}": {value}}}'
        with tally.trial(f"{name} = {value[:20]}"):
            answer = await ask(stack.gateway.port, "POST", path, body.encode(), bearer(KEY))
            check_answer(answer, {400})
            param = answer.json()["error"]["param"]
            expect(param is None or param.startswith(name), f"it names {param}")


@row(
    26,
    "images as data URLs: wrong alphabet, padding, white space, type, empty, percent-encoded",
    "400 invalid_image or unsupported_image_format",
)
async def data_urls(stack: Stack, tally: Tally) -> None:
    good = data_url()
    head, _, data = good.partition(",")
    bad = [
        f"{head},{text}"
        for text in ("", "=", "====", "!", "A", data[:-1], data + "=", data + "!", f"{data[:20]} {data[20:]}", f"{data[:20]}\n{data[20:]}")
    ]
    bad += [f"{head},{data[:30]}{mark}{data[30:]}" for mark in ("\x00", "-", "_", "%2B", "\u00e9", ",", ";", "*")]
    bad += [
        good.replace("image/png", kind)
        for kind in ("text/html", "image/svg+xml", "application/pdf", "image/*", "", "image/tiff", "image/png;x=y")
    ]
    bad += [
        good.replace(";base64", ""),
        "data:",
        "data:,",
        "data:image/png,%89PNG%0D%0A",
        "data:image/png;base64",
        f"data:image/png;base64 ,{data}",
    ]
    bad += [data, f" {good}", f"{good}\n{good}", f"x{good}", "blob:https://x/1", "cid:1", "about:blank", "javascript:1"]
    for url, path in stack.share(itertools.product(bad, ROUTES[:2])):
        body = question("?", url) | ({"answer": "x"} if path != CHAT else {})
        with tally.trial(f"{url[:40]!r}"):
            answer = await ask(stack.gateway.port, "POST", path, body, bearer(KEY))
            check_answer(answer, {400}, {"invalid_image", "unsupported_image_format", "image_url_not_allowed"})


@row(
    35,
    "fields that would give a client power: templates, grammars, cache keys, embeddings, addresses, ids",
    "400 unsupported_parameter; never used",
)
async def powers(stack: Stack, tally: Tally) -> None:
    values: tuple[Any, ...] = ("x", {"a": 1}, None)
    for name, value in stack.share(itertools.product(POWERS.split(), values)):
        with tally.trial(name):
            answer = await ask(stack.gateway.port, "POST", CHAT, question("?") | {name: value}, bearer(KEY))
            check_answer(answer, {400}, {"unsupported_parameter"})
    schema = {"type": "object", "pattern": "(a+)+$"}
    extras: list[dict[str, Any]] = [{"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}]
    extras += [
        {"response_format": {"type": kind, "json_schema": {"name": "x", "schema": schema}}} for kind in ("json_schema", "json_object", "x")
    ]
    extras += [{"guard": {"policy": "paper"}}, {"guard": {"mode": "off"}}]
    for extra in extras:
        with tally.trial(str(extra)[:30]):
            check_answer(await ask(stack.gateway.port, "POST", CHAT, question("?") | extra, bearer(KEY)), {400, 403})
