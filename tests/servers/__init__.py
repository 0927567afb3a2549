"""Real servers for the tests, on free loopback ports, each ended by its own process id."""

from tests.servers.memcached import Memcached
from tests.servers.postgresql import PostgreSQL
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis

__all__ = ["Memcached", "PostgreSQL", "Proxy", "Redis"]
