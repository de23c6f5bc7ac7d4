"""The use cases of an upload: values in, answers or problems out; the outside world only through storage."""
