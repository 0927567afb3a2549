"""Tests of the stores."""

import pytest

pytest.register_assert_rewrite("tests.stores.contract")
