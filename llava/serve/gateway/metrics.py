"""Counters of the gateway as Prometheus text: vLLM's names, so that its dashboards work, and `llava_guard_*`.

Written out here instead of by prometheus_client: these few lines need no dependency and keep their numbers in an object of their own, not
in a registry of the whole process, so that two gateways in one program (and in one test) do not mix. No label ever holds what a client
sent, but for the names of models that exist.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0)
SCORES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)

Labels = tuple[tuple[str, str], ...]


class Metric:
    """A family of numbers: one for each set of labels. A counter, or a gauge where `kind` says so."""

    def __init__(self, name: str, said: str, kind: str = "counter") -> None:
        self.name = name
        self.said = said
        self.kind = kind
        self.values: dict[Labels, float] = {}

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count."""
        key = tuple(labels.items())
        self.values[key] = self.values.get(key, 0) + amount

    def set(self, value: float, **labels: str) -> None:
        """Say how it is now."""
        self.values[tuple(labels.items())] = value

    def lines(self) -> Iterator[str]:
        """In Prometheus' text format."""
        for labels, value in self.values.items():
            yield f"{self.name}{_shown(labels)} {value}"  # all digits: a rate is the difference of two


class Histogram(Metric):
    """Values counted in buckets."""

    def __init__(self, name: str, said: str, bounds: Sequence[float] = SECONDS) -> None:
        super().__init__(name, said, "histogram")
        self.bounds = bounds
        self.counts: dict[Labels, list[int]] = {}

    def observe(self, value: float, **labels: str) -> None:
        """Count one value."""
        key = tuple(labels.items())
        self.counts.setdefault(key, [0] * (len(self.bounds) + 1))[bisect_left(self.bounds, value)] += 1
        self.values[key] = self.values.get(key, 0.0) + value

    def lines(self) -> Iterator[str]:
        for labels, counts in self.counts.items():
            total = 0
            for bound, count in zip((*self.bounds, math.inf), counts, strict=True):
                total += count
                yield f"{self.name}_bucket{_shown((*labels, ('le', '+Inf' if bound == math.inf else f'{bound:g}')))} {total}"
            yield f"{self.name}_sum{_shown(labels)} {self.values[labels]:.6f}"
            yield f"{self.name}_count{_shown(labels)} {total}"


class Metrics:
    """All numbers of one gateway."""

    def __init__(self) -> None:
        self.running = Metric("vllm:num_requests_running", "Requests being answered.", "gauge")
        self.waiting = Metric("vllm:num_requests_waiting", "Requests waiting for a place.", "gauge")
        self.prompt_tokens = Metric("vllm:prompt_tokens_total", "Prompt tokens of all steps.")
        self.generation_tokens = Metric("vllm:generation_tokens_total", "Generated tokens of all steps.")
        self.success = Metric("vllm:request_success_total", "Answers, by why they ended.")
        self.first_token = Histogram("vllm:time_to_first_token_seconds", "Until the first byte of an answer: the guard is done then.")
        self.latency = Histogram("vllm:e2e_request_latency_seconds", "Until the answer is ready to send.")
        self.queue = Histogram("vllm:request_queue_time_seconds", "Time in the gateway's own queue.")
        self.http = Metric("http_requests_total", "Requests by route and status.")
        self.steps = Histogram("llava_guard_step_latency_seconds", "Time of one call, by the method's step.")
        self.verdicts = Metric("llava_guard_verdicts_total", "What became of drafts.")
        self.scores = Histogram("llava_guard_score", "p(harmful) of drafts.", SCORES)
        self.unavailable = Metric("llava_guard_unavailable_total", "Requests that got no answer because the guard failed, by step.")
        self.uninspected = Metric("llava_guard_uninspected_parts_total", "Requests refused for content that the guard cannot inspect.")
        self.upstream = Metric("llava_guard_upstream_errors_total", "Failures of the model's own answer, by code.")
        self.audit_failures = Metric("llava_guard_audit_failures_total", "Lines that could not be written to the audit log.")

        # What is there from the start: of a counter that appears with its first failure, Prometheus sees no increase.
        for counter in (self.uninspected, self.audit_failures):
            counter.add(0)
        for step in ("check", "caption", "regenerate", "recheck"):
            self.unavailable.add(0, step=step)

    def text(self) -> str:
        """The exposition, version 0.0.4."""
        lines = []
        for metric in vars(self).values():
            lines += [f"# HELP {metric.name} {metric.said}", f"# TYPE {metric.name} {metric.kind}", *metric.lines()]
        return "\n".join(lines) + "\n"


def _shown(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
