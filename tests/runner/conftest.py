from tests.runner.fixtures import github

__all__ = ["github"]
