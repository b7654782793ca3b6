"""Stamps: conventions of axes and ellipticity, moments, symmetries, band masks, Eq. 9, measured quantities."""
