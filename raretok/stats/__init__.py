"""Generic statistics: no model in sight."""
