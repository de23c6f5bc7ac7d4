"""What uploads leave behind that nobody came back for: found and removed, at a low rate, beside everything else.

A round may be cut off after any call to the store, and may run beside others of its kind, API processes and clients:
each step first wins the session's record, as any call of a client would. It never touches a published object, an
upload that may still be going on, or a record that it cannot read. Nothing here knows HTTP.
"""
