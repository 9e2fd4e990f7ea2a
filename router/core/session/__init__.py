"""Sessions: requests of one client that go to one endpoint."""
