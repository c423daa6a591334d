from tests.helpers.builds import publisher_environment, registry
from tests.helpers.clouds import s3
from tests.helpers.time_limits import limits_lifted
from tests.helpers.watch_process import home, watch, webhook
from tests.runner.fixtures import github

__all__ = ["github", "home", "limits_lifted", "publisher_environment", "registry", "s3", "watch", "webhook"]
