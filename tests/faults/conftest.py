from tests.faults.visits import generated_templates, serve, without_cache
from tests.faults.watching import expected, site

__all__ = ["expected", "generated_templates", "serve", "site", "without_cache"]
