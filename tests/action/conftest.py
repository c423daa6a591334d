from tests.action.machines import checkout, hub, machines, tiny, wheels
from tests.action.repository import repository
from tests.runner.fixtures import github

__all__ = ["checkout", "github", "hub", "machines", "repository", "tiny", "wheels"]
