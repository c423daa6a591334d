from tests.action.machines import checkout, hub, machines, tiny, wheels
from tests.runner.fixtures import github

__all__ = ["checkout", "github", "hub", "machines", "tiny", "wheels"]
