"""Heeds EC2's notice that a spot machine is taken back: its Ray node gets no new tiles from then on.

Runs beside Ray on every worker (`python -m resources.ec2.interruption`). The notice comes two minutes before the end,
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html. What runs goes on: a tile
that is done before the end is not lost, and one that is not the driver hands out again.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

METADATA = "http://169.254.169.254"
"""The address by which every machine on EC2 is asked about itself."""

POLL_SECONDS = 5.0
AGAIN_SECONDS = 2.0
ANSWER_SECONDS = 2.0
TOKEN_SECONDS = 21_600

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The machine asks itself: a proxy of the environment would be asked about another machine, or nobody."""

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """The machine will be stopped or terminated at a time, in UTC."""

    action: str
    at: dt.datetime

    @property
    def seconds_left(self) -> int:
        """Until then; never less than one."""
        return max(1, int((self.at - dt.datetime.now(dt.UTC)).total_seconds()))


@dataclass(slots=True)
class Metadata:
    """The metadata of this machine, asked with a session token that is renewed when it is refused."""

    address: str = METADATA
    _token: str = ""

    def notice(self) -> Notice | None:
        """The notice, if there is one. None also while nobody answers: that is no reason to stop work."""
        try:
            said = json.loads(self._asked("/latest/meta-data/spot/instance-action"))
            return Notice(str(said["action"]), dt.datetime.fromisoformat(said["time"]))
        except urllib.error.HTTPError as error:
            if error.code == 401:
                self._token = ""
            return None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def _asked(self, path: str) -> bytes:
        if not self._token:
            wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            self._token = _answer("PUT", f"{self.address}/latest/api/token", wanted).decode()
        return _answer("GET", f"{self.address}{path}", {"X-aws-ec2-metadata-token": self._token})


def watch(metadata: Metadata, heed: Callable[[Notice], None], poll_s: float = POLL_SECONDS) -> Notice:
    """Wait for the notice, heed it once, and return it."""
    while (notice := metadata.notice()) is None:
        time.sleep(poll_s)
    LOG.warning("this machine is taken back at %s (%s): it gets no new tiles", notice.at.isoformat(), notice.action)
    heed(notice)
    return notice


def drain(notice: Notice) -> None:
    """Have Ray give this node no new tasks, by Ray's own command: not of its public API, but its version is pinned.

    A head that is busy may not answer at once: it is asked again until the machine ends.
    """
    while (refused := _refused(notice)) and notice.seconds_left > 1:
        LOG.error("Ray did not take the notice: %s", refused)
        time.sleep(AGAIN_SECONDS)


def _refused(notice: Notice) -> str:
    """Why Ray did not take the notice; "" if it did."""
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message", "EC2 takes the spot machine back",
        "--deadline-remaining-seconds", str(notice.seconds_left),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip()[-500:] or f"it ended with {done.returncode}"


def _answer(method: str, url: str, headers: dict[str, str]) -> bytes:
    request = urllib.request.Request(url, method=method, headers=headers)
    with _DIRECT.open(request, timeout=ANSWER_SECONDS) as answer:
        return bytes(answer.read(65_536))


def main() -> None:
    """Watch this machine until it is taken back."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--metadata", default=METADATA)
    options.add_argument("--poll-seconds", type=float, default=POLL_SECONDS)
    said = options.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    watch(Metadata(said.metadata), drain, said.poll_seconds)


if __name__ == "__main__":
    main()
