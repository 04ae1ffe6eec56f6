"""A machine that ends itself: what it is told at its first start, so that nobody has to remember it.

A timer of systemd with the time of day written into it, not a countdown: it survives a restart of the machine, and
fires at once when that time passed while it was off.
"""

from __future__ import annotations

import math

_SCRIPT = """#!/bin/bash
set -eu
end=$(date -u -d "+{minutes} minutes" "+%Y-%m-%d %H:%M:%S UTC")
cat > /etc/systemd/system/eo-assets-end.service <<EOF
[Unit]
Description=The end of this machine: {hours:g} h after its start

[Service]
Type=oneshot
ExecStart=/usr/bin/systemctl poweroff
EOF
cat > /etc/systemd/system/eo-assets-end.timer <<EOF
[Unit]
Description=The end of this machine: {hours:g} h after its start

[Timer]
OnCalendar=$end
Persistent=true
AccuracySec=1s

[Install]
WantedBy=timers.target
EOF
systemctl daemon-reload
systemctl enable --now eo-assets-end.timer || shutdown -P "+{minutes}"
"""


def end_after(hours: float) -> str:
    """User data (cloud-init runs it once, as root) by which a machine powers itself off after so many hours."""
    return _SCRIPT.format(hours=hours, minutes=math.ceil(hours * 60))
