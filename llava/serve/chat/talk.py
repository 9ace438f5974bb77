"""The chat itself: a line is a question or a command, an answer is streamed or, guarded, shown when it is released.

Both kinds of answer come from the one driver (`llava.ecso.driver`), with the defence `ecso` or `direct`. Whatever goes wrong with one line
is a sentence, and the chat goes on. Knows no flag and no model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from llava.chat import Chat
from llava.ecso.defences import Method
from llava.ecso.driver import Done, Piece, Started, events
from llava.ecso.policy import Policy
from llava.ecso.text import as_text, printable
from llava.ecso.trace import Trace
from llava.engines.base import Engine
from llava.errors import ContextTooLong, EngineError, LlavaError, UserError, unknown
from llava.serve.chat.conversation import Conversation, pictures
from llava.serve.chat.terminal import Terminal

USER, MODEL = "USER: ", "ASSISTANT: "

# What a person who waits for a guarded answer is told of the step that runs: never its text.
STEPS = {
    "answer": "(answering)",
    "check": "(checking the answer)",
    "caption": "(describing the picture)",
    "regenerate": "(answering again, without the picture)",
    "recheck": "(checking the new answer)",
}


@dataclass(frozen=True, slots=True)
class Manner:
    """How answers are given. `policy`: of guarded ones, and the sampling of all; `steps`: show a guarded answer's steps; `debug`: write
    each answer's whole trace to standard error, as JSON."""

    policy: Policy
    guarded: bool = False
    steps: bool = False
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A line that begins with a slash. `act` takes the talk and what stands behind the name."""

    usage: str
    said: str
    act: Callable[[Talk, str], None]


class Talk:
    """One chat on one engine; `run` ends with it, and closes the engine."""

    def __init__(self, engine: Engine, terminal: Terminal, conversation: Conversation, manner: Manner) -> None:
        self.terminal = terminal
        self.conversation = conversation
        self.policy = manner.policy
        self.guarded = manner.guarded
        self.ended = False
        self._manner = manner
        self._engine = engine
        self._runner = asyncio.Runner()
        self._said: list[str] = []  # pieces of the answer that is being given, as they were shown
        self._failed = False

    def run(self) -> int:
        """Read lines until the end. The exit code is 1 where nobody sat there to see that a line failed, else 0."""
        with self._runner:
            try:
                while not self.ended and (line := self._line()) is not None:
                    self._take(line)
            finally:
                self._runner.run(self._engine.close())
        return int(self._failed and not self.terminal.interactive)

    def _line(self) -> str | None:
        while True:
            try:
                return self.terminal.read(USER)
            except KeyboardInterrupt:
                if not self.terminal.interactive:
                    raise
                self.terminal.remark("\nCtrl-D or /exit ends the chat.")

    def _take(self, line: str) -> None:
        """Do what a line says. An error is told, and costs this line only."""
        self._said.clear()
        try:
            if line.startswith("/") and not line.startswith("//"):
                self._command(line)
            elif line.strip():
                self._ask(line.removeprefix("/") if line.startswith("//") else line)
        except ContextTooLong as error:
            self._fail(f"{error} Or begin anew with /reset.")
        except LlavaError as error:
            self._fail(str(error))
        except KeyboardInterrupt:  # beside an answer, where `_ask` takes it
            if not self.terminal.interactive:
                raise  # as between two lines: a moment earlier or later is the same to whoever sent it
            self.terminal.remark("\nStopped.")

    def _fail(self, sentence: str) -> None:
        if self._said:
            self.terminal.say("\n")
        self.terminal.remark(f"llava: {sentence}")
        self._failed = True

    def _command(self, line: str) -> None:
        name, *rest = line.split(None, 1)
        if name not in COMMANDS:
            raise unknown("command", name, COMMANDS)
        COMMANDS[name].act(self, rest[0].strip() if rest else "")

    def _ask(self, question: str) -> None:
        """Ask and show. A turn whose answer failed, or was stopped before any of it was shown, is taken back."""
        chat = self.conversation.asking(question)
        try:
            trace = self._runner.run(self._answer(chat))  # its Ctrl-C cancels the answer, and with it the model's call
        except KeyboardInterrupt:
            self._stopped(chat)
            return
        if self._manner.debug:
            self.terminal.remark(json.dumps(trace.to_dict(), indent=1))
        answer = trace.answer or ""
        if not answer.strip():
            raise EngineError("The model said nothing; the question is taken back.")
        if self.guarded:
            self._show(trace, answer)
        self.terminal.say("\n")
        if trace.finish_reason == "length":
            self.terminal.remark(f"The answer was cut at its longest, {self.policy.answer.max_tokens} tokens: --max-new-tokens gives more.")
        self.conversation.answered(chat, answer)

    async def _answer(self, chat: Chat) -> Trace:
        method = Method("ecso" if self.guarded else "direct", self.policy)
        async with aclosing(events(method, chat, self._engine)) as happening:
            async for event in happening:
                if isinstance(event, Started) and self.guarded:
                    self.terminal.status(STEPS.get(event.call.step, ""))
                elif isinstance(event, Piece) and not self.guarded:
                    self._stream(event.text)
                elif isinstance(event, Done):
                    return event.trace
        raise EngineError("The method ended without an outcome.")

    def _stream(self, piece: str) -> None:
        self.terminal.say(printable(piece) if self._said else MODEL + printable(piece))
        self._said.append(piece)

    def _show(self, trace: Trace, answer: str) -> None:
        steps = self._manner.steps
        self.terminal.say(as_text(trace, colour=self.terminal.colour) if steps else MODEL + printable(answer))

    def _stopped(self, chat: Chat) -> None:
        said = "".join(self._said)
        if said.strip():
            self.conversation.answered(chat, said)
            self.terminal.say("\n")
            self.terminal.remark("Stopped. What was said so far stays in the conversation.")
        else:
            self.terminal.remark("\nStopped before anything was said. The question is taken back.")


def _image(talk: Talk, words: str) -> None:
    found = pictures(words)
    talk.conversation.attach(found)
    sizes = ", ".join(f"{image.size[0]}x{image.size[1]}" for image in talk.conversation.waiting)
    talk.terminal.remark(f"With the next question: {sizes}.")


def _reset(talk: Talk, words: str) -> None:
    _nothing("/reset", words)
    talk.conversation.reset()
    count = len(talk.conversation.waiting)
    again = f" The {'image' if count == 1 else f'{count} images'} of the start will go with its first question." if count else ""
    talk.terminal.remark(f"A new conversation.{again}")


def _ecso(talk: Talk, words: str) -> None:
    if words not in ("", "on", "off"):
        raise UserError("Say /ecso on or /ecso off.")
    if words:
        talk.guarded = words == "on"
    on = f"on, with policy {talk.policy.name}: an answer is shown when it is released"
    talk.terminal.remark(f"The guard is {on if talk.guarded else 'off: answers are shown as they come, unchecked'}.")


def _help(talk: Talk, words: str) -> None:
    _nothing("/help", words)
    rows = [f"{command.usage:14} {command.said}" for command in COMMANDS.values()]
    rows += [
        "Ctrl-C         stop the answer",
        "Ctrl-D         end the chat",
        "//...          a question that begins with a slash",
    ]
    talk.terminal.remark("\n".join(rows))


def _exit(talk: Talk, words: str) -> None:
    _nothing("/exit", words)
    talk.ended = True


def _nothing(name: str, words: str) -> None:
    if words:
        raise UserError(f"{name} stands alone.")


COMMANDS = {
    "/image": Command("/image FILE", "an image for the next question; several files, or several times, are several images", _image),
    "/reset": Command("/reset", "forget the conversation", _reset),
    "/ecso": Command("/ecso on|off", "guard the answers to come, or not", _ecso),
    "/help": Command("/help", "this list", _help),
    "/exit": Command("/exit", "end the chat", _exit),
}
