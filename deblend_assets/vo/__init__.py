"""The Virtual Observatory's protocols (TAP, UWS, SIA 1, VOTable): a client, and a service to run it against.

Neither uses Dagster: the client takes settings and a cache, the service a simulated survey.
"""
