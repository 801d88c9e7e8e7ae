"""The dashboards of Grafana, as data: scripts/deploy/generate writes them to helm/overshot/dashboards.

Gauges of a queue, of providers and of Redis come from every API process, the same from each: max, not sum. A worker's slots and all
counters are summed.
"""

import dataclasses
import json

COLUMNS = 24
POOL = 'pool=~"$pool"'


@dataclasses.dataclass(frozen=True)
class Panel:
    """A panel: its title, what it tells, and expressions with the legend of their series."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    about: str = ""
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    # Colours of a stat: from this value on yellow, from this one on red.
    warn: tuple[float, float] | None = None
    # The value below which a stat is red.
    least: float | None = None


def rate(metric: str, by: str, matchers: str = POOL) -> str:
    return f"sum by ({by}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


def rise(metric: str, by: str = "", matchers: str = POOL) -> str:
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (increase({metric}{{{matchers}}}[$__rate_interval]))"


def total(metric: str, matchers: str = POOL) -> str:
    return f"sum(rate({metric}{{{matchers}}}[5m]))"


def quantile(share: float, metric: str, by: str = "", matchers: str = POOL) -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{matchers}}}[$__rate_interval])))"


def quantiles(metric: str, matchers: str = POOL) -> dict[str, str]:
    return {f"p{share * 100:g}": quantile(share, metric, matchers=matchers) for share in (0.5, 0.95, 0.99)}


def mean(metric: str, matchers: str = POOL) -> str:
    total, count = (f"sum(rate({metric}_{part}{{{matchers}}}[$__rate_interval]))" for part in ("sum", "count"))
    return f"{total} / {count}"


def gauge(metric: str, by: str = "pool", matchers: str = POOL) -> str:
    return f"max by ({by}) ({metric}{{{matchers}}})"


def of_provider(metric: str, by: str = "provider") -> str:
    """A gauge of the providers that the pools may use."""
    return f"max by ({by}) ({metric} and on (provider) overshot_pool_provider_info{{{POOL}}})"


FAILED = f'code!~"none|cancelled", {POOL}'
FAILED_JOBS = f'status="failed", {POOL}'
LIVE = 'status=~"queued|scheduled|blocked|running|retrying"'

WAIT = Panel(
    "Queue wait",
    quantiles("overshot_queue_wait_seconds"),
    "s",
    "From the time a job was due to its claim. Grows alone: too few workers.",
)
TIME_SPENT = Panel(
    "Where a job's time goes (means)",
    {
        "waiting": mean("overshot_queue_wait_seconds"),
        "to the first token": mean("overshot_time_to_first_token_seconds"),
        "attempt": mean("overshot_attempt_duration_seconds"),
        "writing the outcome": mean("overshot_settle_duration_seconds"),
    },
    "s",
    "Waiting: workers. To the first token and attempt: the provider. Writing: Redis.",
)
FIRST_TOKEN = Panel(
    "Time to first token, p95, by model",
    {"{{pool}} {{model}}": f"{quantile(0.95, 'overshot_time_to_first_token_seconds', 'pool, model')} >= 0"},
    "s",
)
ATTEMPTS = Panel(
    "Attempts by how they ended",
    {"{{code}}": f"{rate('overshot_attempts_total', 'code')} > 0"},
    "cps",
    "`none` went well; the others are error codes (docs/ERRORS.md).",
    stacked=True,
)
CAPACITY = Panel(
    "Demand against slots",
    {
        "demand": f"sum({gauge('overshot_demand')})",
        "slots": f"sum(overshot_worker_slots{{{POOL}}})",
        "busy": f"sum(overshot_worker_slots_busy{{{POOL}}})",
    },
    about="Demand is queued, due and running jobs: what the pool is scaled on.",
)
SECOND_RUNS = Panel(
    "Runs that were not the last (per interval)",
    {
        "retried": rise("overshot_retried_total"),
        "reclaimed from dead workers": rise("overshot_reclaimed_total"),
        "handed back in a drain": rise("overshot_handed_back_total"),
        "put off by the provider": rise("overshot_snoozed_total"),
        "lease lost": rise("overshot_lease_lost_total"),
        "outcome not written": rise("overshot_settle_abandoned_total"),
    },
)
TOKENS = Panel(
    "Tokens per second",
    {
        "prompt {{model}}": rate("overshot_tokens_prompt_total", "model"),
        "completion {{model}}": rate("overshot_tokens_completion_total", "model"),
    },
)
LAG = Panel(
    "Event-loop lag, p99, by process",
    {"{{job}} {{instance}}": quantile(0.99, "overshot_event_loop_lag_seconds", "job, instance", "")},
    "s",
    "How late a timer fired. Above some milliseconds the process lacks CPU.",
)
OLDEST = Panel("Oldest queued job", {"{{pool}}": gauge("overshot_oldest_queued_seconds")}, "s")


def stat(title: str, query: str, unit: str = "short", **options) -> Panel:
    return Panel(title, {title.lower(): query}, unit, kind="stat", width=4, **options)


FLEET = [
    stat("Redis", "min(overshot_redis_up)", least=1, about="1: every process reaches it."),
    stat("Live workers", f"max({gauge('overshot_live_workers')})", about="Of the pool with the most."),
    stat("Demand", f"sum({gauge('overshot_demand')})"),
    stat("Oldest queued", f"max({gauge('overshot_oldest_queued_seconds')})", "s", warn=(60, 300)),
    stat("Jobs finished", total("overshot_jobs_finished_total"), "cps"),
    stat(
        "Failed, share",
        f"{total('overshot_jobs_finished_total', FAILED_JOBS)}"
        f" / clamp_min({total('overshot_jobs_finished_total')}, 1e-9)",
        "percentunit",
        warn=(0.01, 0.05),
    ),
    Panel(
        "Jobs in and out",
        {
            "submitted": f"sum(rate(overshot_jobs_submitted_total{{{POOL}}}[$__rate_interval]))",
            "{{status}}": rate("overshot_jobs_finished_total", "status"),
        },
        "cps",
    ),
    Panel("Jobs by status", {"{{status}}": f"sum by (status) ({gauge('overshot_jobs', 'pool, status', f'{LIVE}, {POOL}')})"}, stacked=True),
    CAPACITY,
    WAIT,
    TIME_SPENT,
    OLDEST,
    FIRST_TOKEN,
    ATTEMPTS,
    SECOND_RUNS,
    Panel("HTTP answers by status", {"{{status}}": f"{rate('overshot_http_requests_total', 'status', '')} > 0"}, "reqps", stacked=True),
    Panel("HTTP answers, time to the head", quantiles("overshot_http_request_duration_seconds", ""), "s", "Waits and events count until their head."),
    LAG,
    Panel("Versions that run", {"{{version}}": "count by (version) (overshot_build_info)"}),
    Panel("Processes that drain", {"draining": "sum(overshot_draining)"}),
    Panel("Redis memory", {"used": "max(overshot_redis_used_memory_bytes)", "limit": "max(overshot_redis_max_memory_bytes)"}, "bytes"),
]

ONE_POOL = [
    stat("Live workers", f"max({gauge('overshot_live_workers')})", least=1),
    stat("Paused", f"max({gauge('overshot_paused')})", warn=(1, 2)),
    stat("Demand", f"sum({gauge('overshot_demand')})"),
    stat("Slots busy, share", f"sum(overshot_worker_slots_busy{{{POOL}}}) / clamp_min(sum(overshot_worker_slots{{{POOL}}}), 1)", "percentunit"),
    stat("Oldest queued", f"max({gauge('overshot_oldest_queued_seconds')})", "s", warn=(60, 300)),
    stat("Input that waits", f"max({gauge('overshot_queued_bytes')})", "bytes"),
    Panel("Jobs by status", {"{{status}}": gauge("overshot_jobs", "status", f"{LIVE}, {POOL}")}, stacked=True),
    Panel("Queued by priority", {"{{priority}}": gauge("overshot_queued_jobs", "priority")}, stacked=True),
    CAPACITY,
    WAIT,
    TIME_SPENT,
    Panel(
        "Accepted to ended, p95, by status",
        {"{{status}}": f"{quantile(0.95, 'overshot_job_duration_seconds', 'status')} >= 0"},
        "s",
    ),
    Panel("Submitted by task", {"{{task}}": f"{rate('overshot_jobs_submitted_total', 'task')} > 0"}, "cps", stacked=True),
    Panel("Finished by task and status", {"{{task}} {{status}}": f"{rate('overshot_jobs_finished_total', 'task, status')} > 0"}, "cps", stacked=True),
    Panel("Submits refused", {"{{code}}": rise("overshot_submit_refused_total", "code")}),
    ATTEMPTS,
    SECOND_RUNS,
    FIRST_TOKEN,
    TOKENS,
    Panel(
        "Chunks",
        {
            "published": f"sum(rate(overshot_chunks_published_total{{{POOL}}}[$__rate_interval]))",
            "dropped": f"sum(rate(overshot_chunks_dropped_total{{{POOL}}}[$__rate_interval]))",
        },
        "cps",
    ),
    Panel(
        "Upkeep (per interval)",
        {
            "promoted": rise("overshot_promoted_total"),
            "expired": rise("overshot_expired_total"),
            "pruned": rise("overshot_pruned_total"),
        },
    ),
    Panel(
        "Results completed and read",
        {
            "completed": f'sum(rate(overshot_jobs_finished_total{{status="completed", {POOL}}}[$__rate_interval]))',
            "read": f"sum(rate(overshot_results_read_total{{{POOL}}}[$__rate_interval]))",
        },
        "cps",
        "A waiting call, a GET or a stream read to its end is a reader; listings and pub/sub are none.",
    ),
    Panel("Workers' slots by process", {"{{instance}}": f"sum by (instance) (overshot_worker_slots_busy{{{POOL}}})"}),
    OLDEST,
]
PROVIDERS = [
    stat("Providers", f"count({of_provider('overshot_provider_up')})"),
    stat("Down", f"count({of_provider('overshot_provider_up')} == 0) or vector(0)", warn=(1, 2), about="They do not answer, or no worker tells of them."),
    stat("Circuits open", f"count({of_provider('overshot_provider_breaker_state')} > 0) or vector(0)", warn=(1, 2), about="Of a provider or of a model; half-open ones, too."),
    stat("Fullest limit", f"max({of_provider('overshot_provider_limit_used_ratio')})", "percentunit", warn=(0.8, 1), about="At 100 % limits hold jobs back."),
    stat("Attempts under way", f"sum(overshot_worker_slots_busy{{{POOL}}})"),
    stat("Failed attempts, share", f"{total('overshot_attempts_total', FAILED)} / clamp_min({total('overshot_attempts_total')}, 1e-9)", "percentunit", warn=(0.05, 0.3)),
    Panel(
        "Provider up",
        {"{{provider}}": of_provider("overshot_provider_up")},
        about="1: it answers or sleeps. 0: it is down, or no worker tells of it.",
    ),
    Panel(
        "Circuit",
        {"{{provider}}": of_provider("overshot_provider_breaker_state")},
        about="The worst of the provider and its models. 0 closed, 1 half-open, 2 open.",
    ),
    Panel(
        "Limits, share used",
        {"{{provider}} {{limit}}": f"{of_provider('overshot_provider_limit_used', 'provider, limit')} / ({of_provider('overshot_provider_limit', 'provider, limit')} > 0)"},
        "percentunit",
        "By all workers together. At 100 % jobs wait for it.",
    ),
    FIRST_TOKEN,
    Panel("Attempt duration, p95, by pool and task", {"{{pool}} {{task}}": f"{quantile(0.95, 'overshot_attempt_duration_seconds', 'pool, task')} >= 0"}, "s"),
    ATTEMPTS,
    TOKENS,
    Panel(
        "Completion tokens per attempt",
        {"tokens": f"sum(rate(overshot_tokens_completion_total{{{POOL}}}[$__rate_interval])) / sum(rate(overshot_attempts_total{{code=\"none\", {POOL}}}[$__rate_interval]))"},
    ),
    Panel("Put off: full, limited or asleep", {"{{pool}}": rise("overshot_snoozed_total", "pool")}),
    Panel("Retries by code", {"{{code}}": f"{rise('overshot_retried_total', 'code')} > 0"}, stacked=True),
    Panel(
        "Attempts that failed, share",
        {"{{pool}}": f"{rate('overshot_attempts_total', 'pool', FAILED)} / {rate('overshot_attempts_total', 'pool')}"},
        "percentunit",
    ),
    CAPACITY,
]

REDIS = [
    stat("Reached by", "sum(overshot_redis_up)", least=1, about="Processes that Redis answers."),
    stat("Memory, share", "max(overshot_redis_used_memory_bytes) / clamp_min(max(overshot_redis_max_memory_bytes), 1)", "percentunit", about="Without a limit: no share."),
    stat("Busy in scripts", "max(overshot_redis_script_busy_ratio)", "percentunit", warn=(0.6, 0.8)),
    stat("Mean script", "max(overshot_redis_script_mean_seconds)", "s"),
    stat("Errors", "sum(increase(overshot_redis_errors_total[5m]))", warn=(1, 10)),
    stat("Reconnects", "sum(increase(overshot_redis_reconnects_total[5m]))", warn=(1, 10)),
    Panel("Calls by script", {"{{script}}": f"{rate('overshot_redis_call_duration_seconds_count', 'script', '')} > 0"}, "cps", stacked=True),
    Panel("Round trip, p50, by script", {"{{script}}": f"{quantile(0.5, 'overshot_redis_call_duration_seconds', 'script', '')} >= 0"}, "s"),
    Panel("Round trip, p99, by script", {"{{script}}": f"{quantile(0.99, 'overshot_redis_call_duration_seconds', 'script', '')} >= 0"}, "s"),
    Panel("Share of time in scripts", {"busy": "max(overshot_redis_script_busy_ratio)"}, "percentunit", "Redis runs scripts one at a time: near 1 it is full."),
    Panel("Time within Redis and round trip (means)", {"within": "max(overshot_redis_script_mean_seconds)", "round trip": mean("overshot_redis_call_duration_seconds", "")}, "s", "The difference is the way there and waiting for others."),
    Panel("Memory", {"used": "max(overshot_redis_used_memory_bytes)", "limit": "max(overshot_redis_max_memory_bytes)"}, "bytes"),
    Panel("Errors by process", {"{{job}} {{instance}}": "rate(overshot_redis_errors_total[$__rate_interval])"}, "cps"),
    Panel("Reconnects by process", {"{{job}} {{instance}}": "increase(overshot_redis_reconnects_total[$__rate_interval])"}),
    Panel("Input that waits", {"{{pool}}": f"{'max by (pool)'} (overshot_queued_bytes)"}, "bytes"),
]

DASHBOARDS = {
    "fleet": ("Overshot: fleet", FLEET, True),
    "pool": ("Overshot: one pool", ONE_POOL, False),
    "providers": ("Overshot: providers", PROVIDERS, True),
    "redis": ("Overshot: Redis", REDIS, None),
}


def field(panel: Panel) -> dict:
    steps = [{"color": "green", "value": None}]
    if panel.warn:
        steps += [{"color": colour, "value": value} for colour, value in zip(("yellow", "red"), panel.warn)]
    if panel.least is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.least}]
    defaults: dict = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none"}
        defaults["custom"] = {"fillOpacity": 25 if panel.stacked else 5, "showPoints": "never", "stacking": stacking}
    return {"defaults": defaults, "overrides": []}


def panels(listed: list[Panel]) -> list[dict]:
    """The panels as Grafana has them, from left to right."""
    out, column, row = [], 0, 0
    for number, panel in enumerate(listed, 1):
        height = 4 if panel.kind == "stat" else 8
        if column + panel.width > COLUMNS or (out and out[-1]["gridPos"]["h"] != height and column):
            column, row = 0, row + out[-1]["gridPos"]["h"]
        queries = enumerate(panel.queries.items())
        targets = [{"refId": chr(65 + at), "expr": expr, "legendFormat": legend} for at, (legend, expr) in queries]
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
        out.append(
            {
                "id": number,
                "type": panel.kind,
                "title": panel.title,
                "description": panel.about,
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "gridPos": {"x": column, "y": row, "w": panel.width, "h": height},
                "fieldConfig": field(panel),
                "options": {} if panel.kind == "stat" else options,
                "targets": targets,
            }
        )
        column += panel.width
    return out


def variables(many: bool | None) -> list[dict]:
    """The data source and, where the dashboard has pools, one or many of them."""
    found = [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]
    if many is not None:
        pool = {"name": "pool", "label": "Pool", "type": "query", "query": "label_values(overshot_demand, pool)"}
        pool |= {"datasource": {"type": "prometheus", "uid": "${datasource}"}, "refresh": 2, "sort": 1}
        pool |= {"multi": many, "includeAll": many}
        if many:
            pool |= {"allValue": ".*", "current": {"text": "All", "value": "$__all"}}
        found.append(pool)
    return found


def dashboard(name: str) -> str:
    title, listed, many = DASHBOARDS[name]
    links = [{"title": "Overshot", "type": "dashboards", "tags": ["overshot"], "asDropdown": True}]
    whole = {
        "uid": f"overshot-{name}",
        "title": title,
        "tags": ["overshot"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": links,
        "templating": {"list": variables(many)},
        "panels": panels(listed),
    }
    return json.dumps(whole, indent=1) + "\n"
