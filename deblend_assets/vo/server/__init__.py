"""A Virtual Observatory service over the simulated survey: TAP 1.1, SIA 1 and FITS cutouts, on loopback only.

`serve.SkyServer` runs it for as long as a `with` block lasts; `app.create_app` is the ASGI application. Names, columns
and behaviour are those of Astro Data Lab, so that a client that works here works there.
"""
