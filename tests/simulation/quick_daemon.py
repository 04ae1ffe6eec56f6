"""Dagster's daemon, but that it looks around every two seconds, not every thirty: tests would wait for that."""

import dagster._daemon.controller as controller
from dagster._daemon.cli import main

if __name__ == "__main__":
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2
    main()
