"""Closed-form and learned imputation methods that PSAN is compared with, one per file."""
