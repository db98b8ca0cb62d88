"""`Settings`: all sections under one roof, checked together; from it the `Params` of the core and the `config_hash`.

`Settings(...)` reads neither environment nor file: that is `loading.load`, which says where each value came from.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import blake2b
from typing import Any, Final, Literal, Self, cast

from pydantic import BaseModel, Field, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mmdaemon.core.params import Params
from mmdaemon.core.types import Instrument, Regime
from mmdaemon.settings.presets import DEFAULT_PRESET, PRESETS, Value
from mmdaemon.settings.rules import contradictions
from mmdaemon.settings.running import (
    BackupSection,
    ControlSection,
    JournalSection,
    LogSection,
    MetricsSection,
    PageSection,
    RunSection,
    SimulatedSection,
    VenueSection,
    to_ns,
)
from mmdaemon.settings.strategy import (
    DeriskSection,
    GateSection,
    GlftSection,
    QualitySection,
    SignalSection,
    SignalsSection,
)
from mmdaemon.settings.trading import (
    CostSection,
    DetectorSection,
    GuardSection,
    LimitsSection,
    QuotesSection,
    RegimesSection,
)


def overlaid(tree: Mapping[str, Any], under: Mapping[str, Value]) -> dict[str, Any]:
    """A copy of `tree` with the values of `under` (by path) where it has none. What is no table stays as it is."""
    result: dict[str, Any] = {}
    for key, value in tree.items():
        below = {path.removeprefix(f"{key}."): leaf for path, leaf in under.items() if path.startswith(f"{key}.")}
        result[key] = overlaid(cast("dict[str, Any]", value), below) if isinstance(value, dict) else value
    for path, leaf in under.items():
        key, _, rest = path.partition(".")
        if key in tree:
            continue
        if rest:
            result[key] = overlaid(result.get(key, {}), {rest: leaf})
        else:
            result[key] = leaf
    return result


DEFAULT_TABLE: Final = overlaid({}, PRESETS[DEFAULT_PRESET])["regimes"]
"""The ladder table of the default preset, as a tree."""


class Settings(BaseSettings):
    """Everything an operator may choose."""

    model_config = SettingsConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    preset: Literal["tight", "desk"] = DEFAULT_PRESET
    """The set of values under all others: `tight` (simulated, paper, demo) or `desk`, the desk's figures."""
    run: RunSection = Field(default_factory=RunSection)
    venue: VenueSection = Field(default_factory=VenueSection)
    simulated: SimulatedSection = Field(default_factory=SimulatedSection)
    regimes: RegimesSection = Field(default_factory=lambda: RegimesSection.model_validate(DEFAULT_TABLE))
    detector: DetectorSection = Field(default_factory=DetectorSection)
    cost: CostSection = Field(default_factory=CostSection)
    quotes: QuotesSection = Field(default_factory=QuotesSection)
    signal: SignalSection = Field(default_factory=SignalSection)
    signals: SignalsSection = Field(default_factory=SignalsSection)
    glft: GlftSection = Field(default_factory=GlftSection)
    gate: GateSection = Field(default_factory=GateSection)
    quality: QualitySection = Field(default_factory=QualitySection)
    derisk: DeriskSection = Field(default_factory=DeriskSection)
    limits: LimitsSection = Field(default_factory=LimitsSection)
    guard: GuardSection = Field(default_factory=GuardSection)
    journal: JournalSection = Field(default_factory=JournalSection)
    backup: BackupSection = Field(default_factory=BackupSection)
    control: ControlSection = Field(default_factory=ControlSection)
    metrics: MetricsSection = Field(default_factory=MetricsSection)
    page: PageSection = Field(default_factory=PageSection)
    log: LogSection = Field(default_factory=LogSection)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing is read behind the caller's back; `loading.load` brings the sources."""
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _on_top_of_the_preset(cls, given: dict[str, Any]) -> dict[str, Any]:
        name: object = given.get("preset", DEFAULT_PRESET)
        preset = PRESETS.get(name, PRESETS[DEFAULT_PRESET]) if isinstance(name, str) else PRESETS[DEFAULT_PRESET]
        return overlaid(given, preset)

    @model_validator(mode="after")
    def _without_contradictions(self) -> Self:
        if found := [f"{path} {reason}" for path, reason in contradictions(self.flat())]:
            raise ValueError("; ".join(found))
        return self

    def flat(self) -> dict[str, Value]:
        """Every effective value by its path, in the order of the documentation."""
        tree: object = self.model_dump()
        flat: dict[str, Value] = {}
        for path in catalogue():
            value = tree
            for key in path.split("."):
                value = cast("dict[str, object]", value)[key]
            flat[path] = cast("Value", value)
        return flat

    @property
    def config_hash(self) -> str:
        """32 hexadecimal digits over the effective values, paths and ports left out. Equal values, equal hash,
        whichever file, variable or preset they came from."""
        known = catalogue()
        effective = {
            path: value + 0.0 if isinstance(value, float) else value  # -0.0 and 0.0 are one number
            for path, value in self.flat().items()
            if is_hashed(known[path]) and path != "preset"
        }
        canonical = json.dumps(effective, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return blake2b(canonical.encode(), digest_size=16).hexdigest()

    def to_params(self, instrument: Instrument, bot_tag: str, run_epoch: int, *, can_amend: bool = True) -> Params:
        """The frozen numbers of the core. `can_amend` is the venue's word; `venue.amend = false` overrules it."""
        limits = self.limits.to_params()
        return Params(
            instrument=instrument,
            bot_tag=bot_tag,
            run_epoch=run_epoch,
            config_hash=self.config_hash,
            regimes={
                Regime.NEUTRAL_LOW_VOL: self.regimes.neutral_low_vol.to_params(),
                Regime.NEUTRAL_HIGH_VOL: self.regimes.neutral_high_vol.to_params(),
                Regime.UP: self.regimes.up.to_params(),
                Regime.DOWN: self.regimes.down.to_params(),
                Regime.HIGH_VOL_SHOCK: self.regimes.high_vol_shock.to_params(),
            },
            detector=self.detector.to_params(),
            cost=self.cost.to_params(),
            quotes=self.quotes.to_params(limits.max_order_e10),
            signal=self.signal.to_params(),
            signals=self.signals.to_params(),
            features=False,
            glft=self.glft.to_params(),
            gate=self.gate.to_params(),
            quality=self.quality.to_params(),
            derisk=self.derisk.to_params(),
            diff=self.quotes.to_diff_params(can_amend=can_amend and self.venue.amend),
            limits=limits,
            guard=self.guard.to_params(),
            in_flight_max_ns=to_ns(self.venue.in_flight_max_s),
            ack_check_ns=to_ns(self.venue.ack_check_s),
            rollover_hour_utc=self.run.rollover_hour_utc,
            shadow=self.run.shadow,
        )


def _walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo | type[BaseModel]]]:
    """Tables and settings below `model`, by path, each table before what is in it."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield prefix + name, kind
            yield from _walk(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


@cache
def catalogue() -> Mapping[str, FieldInfo]:
    """Every setting by its path."""
    return {path: item for path, item in _walk(Settings, "") if isinstance(item, FieldInfo)}


@cache
def tables() -> Mapping[str, type[BaseModel]]:
    """Every table of settings by its path."""
    return {path: item for path, item in _walk(Settings, "") if not isinstance(item, FieldInfo)}


def extra_of(field: FieldInfo) -> dict[str, object]:
    """What a setting says of itself beyond pydantic: "unit", "hashed"."""
    extra: object = field.json_schema_extra
    return cast("dict[str, object]", extra) if isinstance(extra, dict) else {}


def is_hashed(field: FieldInfo) -> bool:
    return bool(extra_of(field).get("hashed", True))


def default_of(path: str, preset: str = DEFAULT_PRESET) -> Value:
    """The value that holds when nobody says anything but the preset."""
    return PRESETS[preset].get(path, cast("Value", catalogue()[path].default))


def bounds_of(field: FieldInfo) -> tuple[float | None, float | None]:
    """Least and most, both inclusive; None where there is none."""
    low = next((item.ge for item in field.metadata if hasattr(item, "ge")), None)
    high = next((item.le for item in field.metadata if hasattr(item, "le")), None)
    return cast("float | None", low), cast("float | None", high)
