"""Who a client is and what it may use: tenants, keys, tokens' claims, certificates, addresses.

The proxy takes the credential out of a request's head and checks signatures; whose it is, and
what that permits, is decided here.
"""
