"""`python -m flowc`: the command line."""

from flowc.cli import main

if __name__ == "__main__":
    main()
