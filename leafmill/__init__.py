"""Leafmill grows supervised fine-tuning data from a taxonomy; what belongs to none of the other rooms lives here."""

__version__ = "0.1.0"
