"""Measuring policies: success with intervals, reports and plots."""
