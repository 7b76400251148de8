import pytest

# Modules that are no tests, and whose asserts are to say as much.
pytest.register_assert_rewrite("tests.protocol.encounters", "tests.protocol.readers")
