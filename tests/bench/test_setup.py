from llava.bench import pictures
from llava.bench.flows import flows
from llava.bench.setup import Setup, opened, use


def test_an_engine_in_use_keeps_other_pictures_and_none_that_is_measured(setup: Setup) -> None:
    others = pictures.chats(3, 1, 1 + pictures.ELSEWHERE)
    measured = pictures.chats(3, 1, 1)
    assert not {chat.images[0].sha256 for chat in others} & {chat.images[0].sha256 for chat in measured}
    with opened(setup.loaded) as engine:
        before = engine.stats()
        use(engine, others, 2)
        after = engine.stats()
    assert after.image_misses - before.image_misses == 3
    assert after.kept_bytes > before.kept_bytes


def test_it_reads_no_more_than_fit_its_cache(setup: Setup) -> None:
    others = pictures.chats(12, 1, 1 + pictures.ELSEWHERE)
    with opened(setup.loaded) as engine:
        use(engine, others[:1], 1)
        row, piece = engine.stats().slot_bytes, engine.stats().kept_bytes
    with opened(setup.loaded, max_batch=1, kv_cache_gb=(2 * row + 4 * piece) / 2**30) as engine:
        use(engine, others, 2)
        stats = engine.stats()
    assert stats.evictions > 0
    assert stats.image_misses < len(others)


def test_what_an_engine_was_used_with_is_not_in_its_figures(setup: Setup) -> None:
    found = [flow for flow in flows(setup, ["no"], [2], 1) if flow.way == "engine"]
    assert [(flow.questions, flow.rows, flow.misses, flow.hits) for flow in found] == [(1, 4, 4, 4), (4, 4, 1, 7)]
