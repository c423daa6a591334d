"""``python -m modeldrop``."""

import sys

from modeldrop.cli import main

sys.exit(main())
