"""`python -m putgate_api`: the same as `putgate-api`."""

from putgate_api.cli import main

main(prog_name="putgate-api")
