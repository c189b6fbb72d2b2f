"""The data that a config names: their fingerprint, and preparing them before a run is planned or trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lacuna import plugins
from lacuna.data.prepared import PreparedData
from lacuna.runs.budget import LIMITS, MEASURED, VALIDATION, source_of
from lacuna.runs.resolve import RANDOM_DATA


def data_key(config: Mapping[str, Any]) -> str:
    """Equal for configs whose data are the same files."""
    if config["task"]["name"] in MEASURED:
        return str(RANDOM_DATA["fingerprint"])
    data = {key: value for key, value in config["data"].items() if key not in (*LIMITS, *VALIDATION, "download")}
    return json.dumps(data, sort_keys=True)


def fingerprint_at_hand(config: Mapping[str, Any]) -> str | None:
    """A config's fingerprint of its data, None where they are not prepared; only a user's own are prepared here."""
    if config["task"]["name"] in MEASURED:
        return RANDOM_DATA["fingerprint"]
    data = config["data"]
    with plugins.permit(config.get("plugins", ()), announced=True):
        source = source_of(data)
    if source.users_own:  # its prepared copy may be out of date
        return prepare_data(config)
    folder = source.folder(data["root"])
    return PreparedData(folder).provenance.fingerprint if PreparedData.exists(folder) else None


def prepare_data(config: Mapping[str, Any]) -> str:
    """Prepare the data of a config (download them if allowed); returns their fingerprint."""
    if config["task"]["name"] in MEASURED:
        return RANDOM_DATA["fingerprint"]
    data = config["data"]
    with plugins.permit(config.get("plugins", ()), announced=True):
        source = source_of(data)
    prepared = source.prepare(data["root"], data["download"])
    fingerprint: str = prepared.provenance.fingerprint
    return fingerprint
