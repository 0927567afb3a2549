from tests.faults.watching import expected, site

__all__ = ["expected", "site"]
