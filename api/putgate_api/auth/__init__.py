"""Who is calling, and what may they do: the only place where that is decided."""
