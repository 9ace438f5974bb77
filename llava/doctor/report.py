"""What was found, as data: sites, and findings about each. Knows no network."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Literal

Level = Literal["fine", "note", "wrong"]

# Everything that can be wrong, and what to do about it.
FAULTS: dict[str, str] = {
    # on the way there
    "unknown_host": "Check the spelling of the host's name, or give its address.",
    "refused": "Start the server, or give the port that it listens on: its log says which.",
    "unreachable": "Check the address, the network and firewalls between the two machines.",
    "silent": "The program hangs, or it waits for another protocol: look at its log, and check the port.",
    "not_http": "This port belongs to another program: give the port of the gateway, controller or worker.",
    "other_program": "Give the address of the gateway, controller or worker: its port, and no path behind it, unless a proxy gives it one.",
    "behind_proxy": "Start what stands behind the proxy, or mend the proxy's address of it.",
    "redirect": "Give the address that it redirects to: keys and images are not sent on.",
    "needs_tls": "Use https:// instead of http://.",
    "no_tls": "Use http://, or put a proxy with a certificate in front of it.",
    "certificate": "Use the name that the certificate is for, renew it, or set SSL_CERT_FILE to the file of its authority.",
    # at the door
    "loopback_only": "Set LLAVA_API_KEY at a gateway, LLAVA_CLUSTER_SECRET at controller and workers, and give the same here.",
    "key_missing": "Set LLAVA_API_KEY here (OPENAI_API_KEY for a server that is not llava's), or give --key.",
    "key_wrong": "Compare the key here with those that the server was started with.",
    "secret_missing": "Set LLAVA_CLUSTER_SECRET here to the text that controller and workers have, or give --secret.",
    "secret_wrong": "Set LLAVA_CLUSTER_SECRET to the same text everywhere: for controller, workers, gateway, and here.",
    # inside
    "loading": "Wait for it, and look at its log: it waits for a server behind, or reads a checkpoint; when that fails, the process ends.",
    "not_ready": "Its log says what failed; what stands behind it is examined next, where it can be.",
    "no_models": "Load a model there, or name one that it serves with --model; a server that lists none before one is used needs that.",
    "no_worker": "Start one: python -m llava.serve.model_worker --controller <this address> --worker <its own address> "
    "--model-path ...; the log of one that runs says why the controller does not take it.",
    "worker_unreachable": "Start the worker again with a --worker-address that the controller's machine can reach, or open that port.",
    "worker_local_address": "Start the worker with --worker-address http://<its machine>:<port>.",
    "heart_beat_stale": "The worker hangs, or its way to the controller is cut: look at its log; after 30 silent seconds it is forgotten.",
    "queue_full": "Try again later, add a worker, or let more in: --limit-model-concurrency of a worker, --max-running of a gateway.",
    "model_fails": "Look at the log of the process that holds the model.",
    "model_slow": "Give --timeout more seconds, or look at the log of the process that holds the model.",
    "images_refused": "Serve a vision-language model there, or let it take more images.",
    "images_unseen": "Serve a vision-language model with its own chat template.",
    "no_logprobs": "The check's words alone decide. vLLM, SGLang and llava's own engine tell them, and then there is p(harmful).",
    "guard_off": "Start the gateway without --mode off.",
    "guard_shadow": "Start the gateway without --mode shadow when the trial is over.",
    "guard_fails": "No answer is released while the check fails: the gateway's log names the step that failed, and why.",
    "clock": "Set the clocks by NTP: logs and the audit log cannot be compared, and certificates may seem expired.",
    "version": "Install the same version of llava everywhere.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about a site. `code` names what was looked at, or the fault from FAULTS; `advice` says what to do about a fault."""

    code: str
    level: Level
    said: str
    advice: str = ""


@dataclass(slots=True)
class Site:
    """One process: its address, what it is ("" while that is not known), and what was found."""

    url: str
    what: str = ""
    findings: list[Finding] = field(default_factory=list)

    def fine(self, code: str, said: str) -> None:
        """Something is as it should be."""
        self.findings.append(Finding(code, "fine", said))

    def note(self, code: str, said: str) -> None:
        """Something to know, and no fault."""
        self.findings.append(Finding(code, "note", said))

    def wrong(self, code: str, said: str) -> None:
        """A fault; `code` is one of FAULTS."""
        self.findings.append(Finding(code, "wrong", said, FAULTS[code]))


class Trouble(Exception):
    """A fault that ends the look at a site: a code of FAULTS and a sentence."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(said)
        self.code = code
        self.said = said


@dataclass(frozen=True, slots=True)
class Report:
    """All sites, in the order in which they were visited."""

    sites: tuple[Site, ...]
    accepted: Collection[str] = ()  # codes of faults that are meant to be so

    @property
    def wrong(self) -> list[Finding]:
        """The faults that were not accepted."""
        return [f for site in self.sites for f in site.findings if f.level == "wrong" and f.code not in self.accepted]

    @property
    def well(self) -> bool:
        """Whether there is no fault."""
        return not self.wrong

    def to_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {"well": self.well, "accepted": sorted(self.accepted), "sites": [asdict(site) for site in self.sites]}
