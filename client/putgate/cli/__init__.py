"""The `putgate` command: what `putgate.client` does, for people and scripts. One module per command."""
