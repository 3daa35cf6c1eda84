"""``python -m naaplib``: the command ``naaplib``."""

from naaplib.cli import main

if __name__ == "__main__":
    main()
