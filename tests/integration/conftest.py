"""For the tests beside it."""

import pytest

# Its checks are plain asserts; pytest explains those of test modules only, unless told.
pytest.register_assert_rewrite("tests.integration.documented_calls")
