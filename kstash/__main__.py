"""`python -m kstash`: the same as the command `kstash`."""

from kstash.cli.main import main

if __name__ == "__main__":
    main()
