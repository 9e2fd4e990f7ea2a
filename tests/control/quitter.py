"""A worker that ends at once: what ``python -m`` runs where a test wants a crash loop."""

import sys

if __name__ == "__main__":
    sys.exit(7)
