from tests.helpers.builds import publisher_environment, registry
from tests.helpers.clouds import s3
from tests.helpers.time_limits import doctor_patient, limits_lifted
from tests.helpers.watch_process import home, watch, webhook
from tests.runner.fixtures import github

__all__ = [
    "doctor_patient",
    "github",
    "home",
    "limits_lifted",
    "publisher_environment",
    "registry",
    "s3",
    "watch",
    "webhook",
]
