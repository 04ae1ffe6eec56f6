"""The end of a verification on AWS that nobody can hold up: ends its machines when its starter dies, or time is out.

Started detached, with its starter's pipe as its input: what is written there is the process group under way, or `done`.
The pipe ends with the starter, also by SIGKILL; the machines are then ended by their tags, until looks find none.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import Any

from eo_assets.errors import ClusterError
from resources.ec2.account import AwsAccount
from resources.ec2.machines import end, machines

LOOKS = 4
LOOK_SECONDS = 3.0
"""A request to EC2 that was on its way when its sender was killed may still make a machine: it is looked for again."""

DONE = b"done"


def watch(aws: AwsAccount, project: str, seconds: float) -> str:
    """Until the starter is done, which is "", or why the machines were ended."""
    until, under_way, held = time.monotonic() + seconds, 0, b""
    why = "time is out"
    while (left := until - time.monotonic()) > 0:
        if not select.select([0], [], [], left)[0]:
            break
        said = os.read(0, 4096)
        if not said:
            why = "its starter is gone"
            break
        *lines, held = (held + said).split(b"\n")
        for line in lines:
            if line == DONE:
                return ""
            under_way = int(line)
    if under_way:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(under_way, signal.SIGKILL)
    end_all(aws, project)
    return why


def end_all(aws: AwsAccount, project: str) -> None:
    """End the machines until several looks in a row find none. A refusal of AWS is no reason to give up."""
    quiet = 0
    while quiet < LOOKS:
        try:
            end(aws, project)
            quiet = 0 if machines(aws, project) else quiet + 1
        except ClusterError as error:
            quiet = 0
            print(error, file=sys.stderr, flush=True)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asked: dict[str, Any] = json.loads(sys.argv[1])
    account = AwsAccount(asked["region"], asked["profile"], patience_s=10.0)
    print(watch(account, asked["project"], asked["seconds"]), flush=True)
