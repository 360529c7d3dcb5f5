"""`python -m lbipam`."""

from lbipam.commands.cli import main

if __name__ == "__main__":
    main()
