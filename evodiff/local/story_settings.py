"""What makes the story fast: small networks, few samples, steps of 5, 50 and 100 %, and rules in a hurry."""

from __future__ import annotations

from typing import Any, Final

HURRY: Final = 30.0
EXPERIMENT: Final = "story"
WATCH: Final = "reoptimize_on_alert"
CLIENTS: Final = 400
REQUESTS_A_SECOND: Final = 6.0
SAMPLER_STEPS: Final = 8
TIMES_SLOWER: Final = 3.0
LATENCY_LIMIT_SECONDS: Final = 1.0
NEIGHBOURS: Final = 16  # at first; as many again until clients wait too long
MOST_NEIGHBOURS: Final = 256
NEIGHBOURS_SECONDS: Final = 300.0
FINER_STEPS: Final = 64
REPEATS: Final = 50
LATENCY_ALERT, RATING_ALERT = "LatencyOverLimit", "RatingDropped"
OF_INTEREST: Final = ('arm="stable"', 'degraded=~".+"')
SEARCH: Final[dict[str, Any]] = {"dataset": "digits", "population": 4, "steps": 12}
GENERATIONS: Final = 2
ENVIRONMENT: Final = {
    "EVODIFF_CALIBRATION_SECONDS": "1",
    "EVODIFF_EVALUATION__SAMPLES": "64",
    "EVODIFF_WORKERS": "2",
    "EVODIFF_RETRY_SECONDS": "2",
    "EVODIFF_KEEP_EVOLVING_SECONDS": "120",
    "EVODIFF_RELEASE_CANARY_SECONDS": "60",
    "EVODIFF_RELEASE_POLL_SECONDS": "1",
    "EVODIFF_ALERT_POLL_SECONDS": "0.5",
    "EVODIFF_ALERT_COOLDOWN_MINUTES": "2",
    "EVODIFF_ROLLOUT_STEPS": "[5, 50, 100]",
    "EVODIFF_ROLLOUT_POLL_INTERVAL_SECONDS": "0.5",
    "EVODIFF_ROLLOUT_BAKE_SECONDS": "5",
    "EVODIFF_ROLLOUT_MIN_SAMPLES": "5",
    "EVODIFF_ROLLOUT_SYNTHETIC_REQUESTS": "20",
    "EVODIFF_ROLLOUT_BLOCK_SECONDS": "1",
    "EVODIFF_ROLLOUT_STEP_SECONDS": "300",
    "EVODIFF_ROLLOUT_P99_SECONDS": str(LATENCY_LIMIT_SECONDS),
    "EVODIFF_ROLLOUT_RETRY_SECONDS": "5",
}
SETTINGS: Final[dict[str, Any]] = {**SEARCH, "calibration_seconds": 1.0, "evaluation": {"samples": 64}, "workers": 2}
