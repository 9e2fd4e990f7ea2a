"""Whether an endpoint can be trusted with requests, learned from the requests it was given."""
