"""Turns the sections of the settings into what the flow computes with."""

from typing import Final

from flows.conductor import ConductorConfig
from flows.settings.model import Chat, Engagement, Settings, Window
from flows.settings.tenants import CurrentTenants, read_tenants
from operators.chat.answers import ChatConfig
from operators.chat.config import Wanted
from operators.config import NEVER, ScoreConfig, Weights, WindowConfig
from operators.emotions.rules import Rules, read_rules
from operators.interventions.config import InterventionConfig
from operators.interventions.reading import FOLDER

EMOTIONS_FILE: Final = "emotions.toml"


def ms(seconds: float) -> int:
    """Return seconds as whole milliseconds.

    >>> ms(0.1)
    100
    """
    return round(seconds * 1000)


def current_tenants(settings: Settings) -> CurrentTenants:
    """Return what holds for each tenant, as it is read now.

    Raises:
        ConfigError: it can't be read or doesn't fit.
    """
    return CurrentTenants(read_tenants(settings.tenants.path, settings.interventions.rules))


def conductor_config(settings: Settings, tenants: CurrentTenants | None = None) -> ConductorConfig:
    """Return what the conductor computes with; reads the tenants' settings unless they are given.

    Raises:
        ConfigError: those can't be read or don't fit.
    """
    tenants = tenants or current_tenants(settings)
    return ConductorConfig(
        window=window_config(settings.window),
        score=score_config(settings.engagement),
        anomalies=settings.anomalies.detector() if settings.anomalies.enabled else None,
        emotions=emotion_rules(settings),
        interventions=intervention_config(settings, tenants),
        chat=chat_config(settings.chat, tenants),
        shards=settings.window.shards,
    )


def window_config(window: Window) -> WindowConfig:
    """Return how events are placed in time."""
    return WindowConfig(
        lateness_ms=ms(window.lateness_s),
        early_ms=ms(window.early_s),
        session_timeout_ms=ms(window.session_timeout_s),
        presence_timeout_ms=ms(window.presence_timeout_s),
        join_timeout_ms=NEVER if window.join_timeout_s is None else ms(window.join_timeout_s),
        poll_timeout_ms=ms(window.poll_timeout_s),
        audience_ms=ms(window.audience_s),
    )


def score_config(engagement: Engagement) -> ScoreConfig:
    """Return how a window becomes a score."""
    limits = engagement.boundaries
    return ScoreConfig(
        weights=Weights(**engagement.weights.model_dump()),
        chat_ceiling=engagement.ceilings.chat,
        reactions_ceiling=engagement.ceilings.reactions,
        boundaries=(limits.very_high, limits.high, limits.moderate, limits.low),
        emit=engagement.emit,
        min_delta=engagement.min_delta,
        heartbeat_ms=ms(engagement.heartbeat_s),
    )


def chat_config(chat: Chat, tenants: CurrentTenants) -> ChatConfig:
    """Return how answers are judged and routed."""
    return ChatConfig(
        policies=tenants.chat,
        wanted=Wanted(chat.wanted_escalated, chat.wanted_reviewed),
        conversation_ms=ms(chat.conversation_timeout_s),
        repeats_kept=chat.repeats_kept,
        calibration_ms=ms(chat.calibration_interval_s),
        tally_ms=ms(chat.calibration_memory_s),
    )


def emotion_rules(settings: Settings) -> Rules | None:
    """Return the rules of emotions; None if interventions are off altogether.

    Raises:
        ConfigError: they can't be read or don't fit.
    """
    section = settings.interventions
    return read_rules((section.rules or FOLDER) / EMOTIONS_FILE) if section.enabled else None


def intervention_config(settings: Settings, tenants: CurrentTenants) -> InterventionConfig:
    """Return how interventions are decided."""
    section = settings.interventions
    return InterventionConfig(
        policies=tenants.interventions,
        score=score_config(settings.engagement),
        memory_ms=ms(section.memory_s),
        approval_ms=ms(section.approval_s),
        pending_most=section.pending_most,
        rules=section.rules or FOLDER,
    )
