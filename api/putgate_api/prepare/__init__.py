"""Before the API serves, and while it does: the bucket, its claim, the probe, what `bucket.json` fixes.

`steps` is the order, `keeper` goes through it until it succeeds and looks after the store from then on, `probing`
decides what a probe is worth, `trouble` says every failure in words that help, and `status` is what the report shows.
Nothing here knows HTTP.
"""
