"""`python -m putgate_daemon`: the command `putgate-daemon`."""

from putgate_daemon.cli import main

main(prog_name="putgate-daemon")
