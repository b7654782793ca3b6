"""Shear of whole fields, detection inside: fields of known shear, sums of their catalogues, m, c, leakage and n_eff."""
