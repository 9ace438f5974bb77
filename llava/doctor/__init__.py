"""`llava doctor URL`: who answers there, what stands behind it, what is wrong, and what to do about it.

    report = asyncio.run(examine("http://localhost:8000", credentials=Credentials(key="...")))
    for finding in report.wrong: print(finding.said, finding.advice)

A room of its own, beside `serve`: it is a client of every kind of process and part of none, and runs where no server is installed. It
walks from a gateway to its controller, from there to each worker, and asks each model; `reach` makes the first contact, `identify` says
who answers, `gateway`, `cluster` and `foreign` examine one kind of process each, `model` asks. It changes nothing where it looks.
"""

from llava.doctor.report import FAULTS, Finding, Report, Site
from llava.doctor.walk import Credentials, examine

__all__ = ["FAULTS", "Credentials", "Finding", "Report", "Site", "examine"]
