"""`python -m kstash`: the same as the command `kstash`."""

import sys
from pathlib import Path

import kstash

if __name__ == "__main__":
    # Python looks into the current folder first: what is called `kstash` there is imported in place
    # of the package, which has no part then but this file.
    found = next(iter(kstash.__path__))
    if not Path(found).samefile(Path(__file__).parent):
        sys.exit(
            f"error: {found} hides the package kstash, since it has the same name: give it another "
            "one, or start Python elsewhere"
        )

    from kstash.cli.main import main

    main()
