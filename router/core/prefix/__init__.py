"""What of a prompt's beginning is where: names for prefixes, and who is thought to hold them."""
