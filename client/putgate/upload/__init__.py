"""The upload engine that applications, the command and the daemon share."""
