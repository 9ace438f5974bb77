"""A session as HTML: the conversation so far, and the answer that is being given.

Every text of a user, a model or a service goes through `words.escaped`, so that none of it becomes an element. Knows no gradio.
"""

from __future__ import annotations

from llava.serve.web.chat.session import Session, Turn
from llava.serve.web.pictures import Shown
from llava.serve.web.words import escaped

EMPTY = """<div class="chat-empty"><p>Ask about a picture: add one below, write a question, press Enter.</p>
<p>With the guard on, the model judges its own answer first, and you see it only when it is cleared.</p></div>"""

# What is happening while nothing may be shown: the step of the method, or what stands before it.
STEPS = {
    "": "Waiting for the model",
    "moderation": "The question is being moderated",
    "answer": "The model answers",
    "check": "The model judges its own answer",
    "caption": "Its answer was held back. It describes the picture",
    "regenerate": "It answers again, without seeing the picture",
    "recheck": "The model judges its new answer",
}
# What the guard did, below its answer.
RELEASED = {
    "draft": "Checked: the model found its own answer harmless.",
    "regenerated": "The model called its first answer harmful. This one was given without the picture.",
    "refusal": "The model called its answers harmful. None of them is shown.",
}
VOTES = {
    "upvote": "You called this answer good. Thank you.",
    "downvote": "You called this answer bad. Thank you.",
    "flag": "You flagged this answer. Thank you.",
}


def past(session: Session) -> str:
    """All turns; of the one that is being answered only the question."""
    if not session.turns:
        return EMPTY
    return "".join(f'<article class="turn">{_asked(turn, at)}{_answer(turn)}</article>' for at, turn in enumerate(session.turns, 1))


def running(session: Session) -> str:
    """The answer that is being given; nothing when there is none."""
    turn = session.last
    if turn is None or not session.busy or turn.state != "answering":
        return ""
    if turn.answer:
        return f'<div class="said running">{_speaker(turn)}<p class="text">{escaped(turn.answer)}</p></div>'
    return f'<div class="said running">{_speaker(turn)}<p class="step">{STEPS.get(turn.step, STEPS["answer"])} …</p></div>'


def _asked(turn: Turn, number: int) -> str:
    pictures = "".join(_picture(shown, at, number) for at, shown in enumerate(turn.pictures, 1))
    gallery = f'<div class="pictures">{pictures}</div>' if pictures else ""
    return f'<div class="asked"><h3 class="speaker">You</h3>{gallery}<p class="text">{escaped(turn.question)}</p></div>'


def _picture(shown: Shown, at: int, number: int) -> str:
    wide, high = shown.size
    return f'<img src="{escaped(shown.thumbnail)}" alt="picture {at} of question {number}, {wide} by {high} pixels">'


def _answer(turn: Turn) -> str:
    if turn.state == "answering":
        return ""
    text = f'<p class="text">{escaped(turn.answer)}</p>' if turn.answer else ""
    notes = "".join(f'<p class="{kind}">{escaped(said)}</p>' for kind, said in _notes(turn))
    return f'<div class="said {turn.released or turn.state}">{_speaker(turn)}{text}{notes}</div>'


def _notes(turn: Turn) -> list[tuple[str, str]]:
    """What stands below an answer: the kind of note, and its sentence."""
    notes = []
    if turn.problem:
        notes.append(("problem", turn.problem))
    elif turn.state == "stopped":
        notes.append(("note", "Stopped." if turn.answer else "Stopped before anything could be shown."))
    elif turn.released:
        notes.append(("note", RELEASED[turn.released]))
    elif not turn.guarded:
        notes.append(("note", "Not checked: the guard was off."))
    if turn.longest:
        notes.append(("note", f"The answer was cut at its longest, {turn.longest} tokens."))
    if turn.vote:
        notes.append(("note", VOTES[turn.vote]))
    return notes


def _speaker(turn: Turn) -> str:
    return f'<h3 class="speaker">{escaped(turn.model)}</h3>'
