"""Measurement: arms over one set of panel answers, with intervals."""
