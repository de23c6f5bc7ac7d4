"""The only place that knows HTTP: a message in, a use case, a message out."""
