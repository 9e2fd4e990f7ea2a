"""What an operator sees: metrics, the access log, logs."""
