"""`python -m eo_assets.prepare_instance`: the instance of EO_ASSETS_PROJECTS, with its tables and its pools.

For a deployment, before anything is queued there: the run queue overlooks the limit of a pool that it meets first.
"""

from __future__ import annotations

import sys

from eo_assets.definitions import named_projects
from eo_assets.errors import EoAssetsError
from eo_assets.instance import open_instance


def main() -> int:
    """Make it ready; what is there stays. 1 if a project can't be opened, with the reason."""
    try:
        with open_instance(*named_projects()):
            return 0
    except EoAssetsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
