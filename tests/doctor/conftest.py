from tests.helpers.builds import publisher_environment, registry
from tests.helpers.time_limits import doctor_patient, limits_lifted

__all__ = ["doctor_patient", "limits_lifted", "publisher_environment", "registry"]
