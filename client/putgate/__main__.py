"""`python -m putgate`: the same as `putgate`."""

from putgate.cli.main import main

main(prog_name="putgate")
