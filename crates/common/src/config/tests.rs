//! The configuration as users meet it: defaults, mistakes, overrides, secrets.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::code::ErrorCode;

/// The example of the README, whose values are the defaults.
const EXAMPLE: &str = r#"
max_body_bytes = "32MiB"

[worker]
drain    = "25s"
liveness = "10s"

[pools.chat]
providers     = ["local", "sim"]
concurrency   = 8
lease         = "30s"
stall_timeout = "10m"
job_timeout   = "1h"
queue_timeout = "1h"
max_queued    = 100000
max_queued_bytes = "1GiB"
max_crashes   = 3
result_ttl    = "24h"
affinity      = "none"
affinity_max_wait = "30s"
durability    = "memory"

[providers.local]
kind     = "openai"
base_url = "http://127.0.0.1:8000/v1/"
api_key_env = "LOCAL_API_KEY"
models   = ["smollm2"]
request_timeout = "5m"

[providers.sim]
kind   = "simulated"
tokens = 20
pace   = "20ms"
jitter = 0.2
error_rate = 0.0

[tasks.call_analysis]
kind = "chat"
pool = "chat"

[retry]
provider_unavailable = "30s"
stale_worker = "30s"
bad_response = "2m"
bad_input    = "never"
"#;

/// One mistake per line, or more.
const VERY_WRONG: &str = r#"
max_body_bytes = "much"
port = 1
[worker]
drain = "0s"
liveness = "1s"
grace = "1s"
[pools.chat]
providers = ["nobody", "web"]
concurrency = 1025
lease = "2h"
stall_timeout = 10
result_ttl = "31d"
affinity = "cpu"
max_crashes = -1
leese = "1s"
[pools.chat.retry]
cancelled = "1s"
tiemout = "1s"
[pools."No Name"]
providers = []
[pools.bare]
[providers.web]
kind = "openai"
base_url = "ftp://example.com"
tokens = 3
[providers.odd]
kind = "telepathy"
[providers.s]
kind = "simulated"
jitter = 1.5
error_rate = "0.1"
base_url = "http://localhost"
[tasks.chat]
kind = "chat"
[tasks.mine]
kind = "dance"
pool = "none"
size = 1
[retry]
timeout = "soon"
"#;

const SMALL: &str = "[pools.a]\nproviders = ['s']\n[providers.s]\nkind = 'simulated'\n";

fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some((Path::new("overshot.toml"), text)), env)
}

fn bare(env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::load(None, env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn keys(result: Result<Config, ConfigErrors>) -> Vec<String> {
    let mut keys: Vec<_> = result.unwrap_err().iter().map(|mistake| mistake.key.clone()).collect();
    keys.sort();
    keys
}

#[test]
fn the_values_of_the_example_are_the_defaults() {
    let config = load(EXAMPLE, &[]).unwrap();
    let pool = &config.pools[&"chat".parse().unwrap()];
    let providers = pool.providers.clone();
    assert_eq!(providers, ["local", "sim"]);
    let default = PoolConfig { providers, retry: pool.retry.clone(), ..PoolConfig::default() };
    assert_eq!(*pool, default);
    assert_eq!(config.worker, WorkerConfig::default());
    assert_eq!(config.max_body_bytes, Config::MAX_BODY_BYTES);
    assert_eq!(config.providers["sim"], ProviderConfig::simulated(SimulatedProvider::default()));
    assert_eq!(config.providers["local"].request_timeout, ProviderConfig::REQUEST_TIMEOUT);
    for code in ErrorCode::ALL {
        assert_eq!(pool.retry.delay(*code), code.default_retry_delay(), "{code}");
    }
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.to_string(), "configuration ok");
}

#[test]
fn without_a_file_there_is_a_pool_on_a_simulated_provider() {
    let config = bare(&[]).unwrap();
    let pool = config.default_pool().unwrap();
    assert_eq!(pool.as_str(), "chat");
    assert_eq!(config.pool(pool).unwrap().providers, ["sim"]);
    assert_eq!(config.redis_url.expose(), "redis://127.0.0.1:6379/0");
    assert_eq!(config.http_addr.to_string(), "0.0.0.0:8080");
    assert_eq!(config.worker_http_addr.to_string(), "0.0.0.0:8081");
    assert_eq!((config.log_filter.as_str(), config.log_format), ("info", LogFormat::Text));
    assert!(config.api_tokens.is_empty() && !config.allow_unsafe_redis && config.worker_pools.is_none());
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn every_mistake_of_a_very_wrong_file_is_told_at_once_with_its_key() {
    let found = keys(load(VERY_WRONG, &[("OVERSHOT_API_TOKEN", "a,,b"), ("OVERSHOT_LOG_FORMAT", "xml")]));
    let mut expected = [
        "OVERSHOT_API_TOKEN",
        "OVERSHOT_LOG_FORMAT",
        "max_body_bytes",
        "pools.\"No Name\"",
        "pools.\"No Name\".providers",
        "pools.bare.providers",
        "pools.chat.affinity",
        "pools.chat.concurrency",
        "pools.chat.lease",
        "pools.chat.leese",
        "pools.chat.max_crashes",
        "pools.chat.providers",
        "pools.chat.result_ttl",
        "pools.chat.retry.cancelled",
        "pools.chat.retry.tiemout",
        "pools.chat.stall_timeout",
        "port",
        "providers.odd.kind",
        "providers.s.base_url",
        "providers.s.error_rate",
        "providers.s.jitter",
        "providers.web.base_url",
        "providers.web.tokens",
        "retry.timeout",
        "tasks.chat",
        "tasks.mine.kind",
        "tasks.mine.pool",
        "tasks.mine.size",
        "worker.drain",
        "worker.grace",
        "worker.liveness",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn each_mistake_prints_as_one_line_with_key_and_problem() {
    let errors = load("[worker]\ndrain = \"x\\ny\"\n", &[]).unwrap_err().to_string();
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(
        lines,
        [
            "worker.drain: `x\\ny` is not a duration such as \"30s\"",
            "pools: there is no pool: add a section [pools.NAME]"
        ]
    );
}

#[test]
fn an_ill_formed_file_is_told_with_its_line_and_the_environment_with_it() {
    let errors = load("\n[pools\n", &[("OVERSHOT_HTTP_ADDR", "here"), ("OVERSHOT__WORKER__DRAIN", "5s")]).unwrap_err();
    let text = errors.to_string();
    assert!(text.contains("overshot.toml: line 2: "), "{text}");
    assert!(text.contains("OVERSHOT_HTTP_ADDR: `here`"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn variables_override_every_kind_of_scalar() {
    let file = "[pools.a-b]\nproviders = ['s']\nlease = '5s'\n[providers.s]\nkind = 'simulated'\n";
    let config = load(
        file,
        &[
            ("OVERSHOT__MAX_BODY_BYTES", "1MiB"),
            ("OVERSHOT__WORKER__DRAIN", "5s"),
            ("OVERSHOT__POOLS__A_B__CONCURRENCY", "16"),
            ("OVERSHOT__pools__a-b__lease", "7s"),
            ("OVERSHOT__POOLS__A_B__RETRY__TIMEOUT", "0s"),
            ("OVERSHOT__POOLS__NEW_ONE__PROVIDERS", "s"),
            ("OVERSHOT__PROVIDERS__S__ERROR_RATE", "0.5"),
            ("OVERSHOT__TASKS__MINE__KIND", "chat"),
            ("OVERSHOT__RETRY__BAD_INPUT", "1s"),
        ],
    )
    .unwrap();
    assert_eq!(config.max_body_bytes, 1 << 20);
    assert_eq!(config.worker.drain, Duration::from_secs(5));
    let pool = &config.pools[&"a-b".parse().unwrap()];
    assert_eq!((pool.concurrency, pool.lease), (16, Duration::from_secs(7)));
    assert_eq!(pool.retry.delay(ErrorCode::Timeout), Some(Duration::ZERO));
    assert_eq!(pool.retry.delay(ErrorCode::BadInput), Some(Duration::from_secs(1)));
    let new = &config.pools[&"new-one".parse().unwrap()];
    assert_eq!(new.retry.delay(ErrorCode::Timeout), ErrorCode::Timeout.default_retry_delay());
    assert_eq!(new.providers, ["s"]);
    assert_eq!(config.tasks["mine"].kind, TaskKind::Chat);
    let ProviderKind::Simulated(simulated) = &config.providers["s"].kind else { panic!("another kind") };
    assert!((simulated.error_rate - 0.5).abs() < f64::EPSILON);
}

#[test]
fn an_override_that_names_nothing_is_a_mistake_and_told_by_its_variable() {
    let wrong = [
        ("OVERSHOT__", "1"),
        ("OVERSHOT__POOLS", "1"),
        ("OVERSHOT__POOLS__A", "1"),
        ("OVERSHOT__POOLS__A__CONCURENCY", "1"),
        ("OVERSHOT__POOLS__A__CONCURRENCY", "many"),
        ("OVERSHOT__POOLS__A__CONCURRENCY__X", "1"),
        ("OVERSHOT__POOLS__A__RETRY", "1"),
        ("OVERSHOT__REDIS_URL", "redis://h"),
        ("OVERSHOT__WORKER", "1"),
        ("OVERSHOT__WORKER__DRAIN__X", "1"),
    ];
    let names: Vec<_> = wrong.iter().map(|(name, _)| *name).collect();
    assert_eq!(keys(load(SMALL, &wrong)), names);
}

#[test]
fn two_variables_for_one_key_are_a_mistake() {
    let both = [("OVERSHOT__WORKER__DRAIN", "5s"), ("OVERSHOT__worker__drain", "6s")];
    assert_eq!(keys(bare(&both)), ["OVERSHOT__worker__drain"]);
}

#[test]
fn variables_that_kubernetes_injects_are_ignored() {
    let injected = [("OVERSHOT_API_PORT", "tcp://10.0.0.1:8080"), ("OVERSHOT_API_SERVICE_HOST", "10.0.0.1")];
    assert_eq!(bare(&injected).unwrap(), bare(&[]).unwrap());
}

#[test]
fn each_wrong_variable_is_a_mistake() {
    for (name, value) in [
        ("OVERSHOT_API_TOKEN", ""),
        ("OVERSHOT_API_TOKEN", "a,"),
        ("OVERSHOT_API_TOKEN", "a b"),
        ("OVERSHOT_REDIS_URL", "localhost:6379"),
        ("OVERSHOT_REDIS_URL", "redis://"),
        ("OVERSHOT_HTTP_ADDR", "8080"),
        ("OVERSHOT_WORKER_HTTP_ADDR", ""),
        ("OVERSHOT_ALLOW_UNSAFE_REDIS", "yes"),
        ("OVERSHOT_WORKER_POOLS", "nobody"),
        ("OVERSHOT_WORKER_POOLS", "chat,"),
        ("OVERSHOT_LOG", "overshot=loud"),
        ("OVERSHOT_LOG_FORMAT", "JSON"),
    ] {
        assert_eq!(keys(bare(&[(name, value)])), [name], "{value}");
    }
}

#[test]
fn variables_set_what_they_name() {
    let config = bare(&[
        ("OVERSHOT_API_TOKEN", "one, two"),
        ("OVERSHOT_HTTP_ADDR", "127.0.0.1:0"),
        ("OVERSHOT_ALLOW_UNSAFE_REDIS", "1"),
        ("OVERSHOT_WORKER_POOLS", "chat"),
        ("OVERSHOT_LOG_FORMAT", "json"),
    ])
    .unwrap();
    let tokens: Vec<_> = config.api_tokens.iter().map(Secret::expose).collect();
    assert_eq!(tokens, ["one", "two"]);
    assert_eq!(config.http_addr.port(), 0);
    assert!(config.allow_unsafe_redis);
    assert_eq!(config.served_pools(), config.pools.keys().cloned().collect::<Vec<_>>());
    assert_eq!(config.log_format, LogFormat::Json);
}

#[test]
fn no_secret_is_ever_shown() {
    let env = [("OVERSHOT_API_TOKEN", "hunter2"), ("OVERSHOT_REDIS_URL", "rediss://u:p@hunter2@host:6380/1")];
    let config = bare(&env).unwrap();
    let shown = format!("{config:?} {config:#?} {config} {}", config.redis_url);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("rediss://host:6380/1"), "{shown}");
    let socket = RedisUrl::new("unix:///run/redis.sock?db=1&pass=hunter2").unwrap();
    assert_eq!(format!("{socket} {socket:?}"), "unix:///run/redis.sock \"unix:///run/redis.sock\"");
    for (url, shown) in [
        ("redis+sentinel://u:p@a,b/main?sentinel_password=hunter2", "redis+sentinel://a,b/main"),
        ("redis+sentinel://a/main?sentinel_password=x@hunter2", "redis+sentinel://…"),
        ("redis://u:hunter2?x@host", "redis://…"),
    ] {
        assert_eq!(RedisUrl::new(url).unwrap().to_string(), shown);
    }
}

#[test]
fn a_mistake_does_not_repeat_what_may_be_a_secret() {
    let text = "[pools.a]\nproviders = ['w']\n[providers.w]\nkind = 'openai'\nbase_url = 'http://u:hunter2@h'\n\
                api_key_env = 'hunter2-key'\napi_key = 'hunter2'\n";
    let errors = load(text, &[("OVERSHOT_REDIS_URL", "hunter2"), ("OVERSHOT_API_TOKEN", "hunter2,")]).unwrap_err();
    assert_eq!(errors.iter().count(), 5, "{errors}");
    assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{errors}");
    let broken = load("key = hunter2", &[]).unwrap_err().to_string();
    assert!(!broken.contains("hunter2"), "{broken}");
}

#[test]
fn a_base_url_needs_scheme_host_and_a_port_that_is_one() {
    let url = |url: &str| {
        load(SMALL, &[("OVERSHOT__PROVIDERS__S__KIND", "openai"), ("OVERSHOT__PROVIDERS__S__BASE_URL", url)])
    };
    for good in ["http://h", "https://h:1/v1", "http://[::1]:8000/v1", "http://[::1]/v1"] {
        assert!(url(good).is_ok(), "{good}");
    }
    for bad in ["h:80", "http://", "http://:80", "http://h:x", "http://h:70000", "http://h/v1?k=1", "http://a b"] {
        assert_eq!(keys(url(bad)), ["OVERSHOT__PROVIDERS__S__BASE_URL"], "{bad}");
    }
}

#[test]
fn models_come_in_the_order_of_preference_each_once() {
    let text = "[pools.a]\nproviders = ['z', 'b']\n[providers.z]\nkind = 'simulated'\nmodels = ['m2', 'm1']\n\
                [providers.b]\nkind = 'simulated'\nmodels = ['m1', 'm0']\n";
    let config = load(text, &[]).unwrap();
    let pool = config.default_pool().unwrap();
    assert_eq!(config.models_of_pool(pool), ["m2", "m1", "m0"]);
    assert_eq!(config.default_model(pool), Some("m2"));
}

#[test]
fn settings_that_defeat_each_other_are_warnings() {
    let text = "[pools.a]\nproviders = ['s']\nstall_timeout = '5m'\njob_timeout = '4m'\nmax_queued_bytes = '1MiB'\n\
                [providers.s]\nkind = 'simulated'\n[providers.idle]\nkind = 'simulated'\n";
    let config = load(text, &[]).unwrap();
    let keys: Vec<_> = config.warnings.iter().filter_map(|warning| warning.split(':').next()).collect();
    assert_eq!(
        keys,
        ["providers.s.request_timeout", "pools.a.stall_timeout", "pools.a.max_queued_bytes", "providers.idle"]
    );
}

#[test]
fn with_several_pools_none_is_the_default() {
    let text = format!("{SMALL}[pools.b]\nproviders = ['s']\n");
    assert_eq!(load(&text, &[]).unwrap().default_pool(), None);
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake_of_the_flag() {
    let errors = from_process(Some("/nowhere/overshot.toml".into())).unwrap_err();
    let mistake = errors.iter().find(|mistake| mistake.key == "--config").unwrap();
    assert!(mistake.problem.contains("/nowhere/overshot.toml"), "{errors}");
}

#[test]
fn sizes_and_numbers_end_at_their_limits() {
    let with = |key: &str, value: &str| load(&format!("{SMALL}[pools.b]\nproviders = ['s']\n{key} = {value}\n"), &[]);
    for (key, good, bad) in [
        ("concurrency", "1", "0"),
        ("concurrency", "1024", "1025"),
        ("lease", "'1s'", "'999ms'"),
        ("lease", "'1h'", "'1h 1s'"),
        ("job_timeout", "'30d'", "'30d 1ms'"),
        ("job_timeout", "'1ms'", "'0s'"),
        ("max_queued_bytes", "1024", "-1"),
        ("max_queued_bytes", "'1TiB'", "'2TiB'"),
        ("max_queued", "1", "'1'"),
        ("affinity", "'model'", "''"),
        ("affinity_max_wait", "'1ms'", "'0s'"),
        ("durability", "'disk'", "'fsync'"),
    ] {
        assert!(with(key, good).is_ok(), "{key} = {good}");
        assert_eq!(keys(with(key, bad)), [format!("pools.b.{key}")], "{key} = {bad}");
    }
}

#[test]
fn a_task_takes_defaults_limits_and_a_schema() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("score.json"), r#"{"required":["b","a"]}"#).unwrap();
    let file = "[pools.chat]\nproviders = [\"sim\"]\n[providers.sim]\nkind = \"simulated\"\n[tasks.t]\nkind = \"chat\"\n\
        schema = \"score.json\"\ntimeout = \"2m\"\n[tasks.t.input]\nsystem = \"s\"\ntemperature = 0.5\n";
    let env = [("OVERSHOT__TASKS__T__INPUT__TEMPERATURE".to_owned(), "1.5".to_owned())];
    let config = Config::load(Some((&folder.path().join("overshot.toml"), file)), env).unwrap();
    let task = &config.tasks["t"];
    assert_eq!(task.schema.as_ref().unwrap().json().get(), r#"{"required":["b","a"]}"#);
    assert_eq!((task.timeout, task.max_attempts), (Some(Duration::from_secs(120)), None));
    assert_eq!((task.input["system"].as_str(), task.input["temperature"].as_str()), ("\"s\"", "1.5"));
}

#[test]
fn what_a_task_could_not_run_with_is_a_mistake_at_start() {
    let file = "[pools.chat]\nproviders = [\"sim\"]\n[providers.sim]\nkind = \"simulated\"\n\
        [tasks.a]\nkind = \"chat\"\nschema = \"no-such.json\"\n[tasks.a.input]\ntemperature = 3\n\
        [tasks.b]\nkind = \"embedding\"\nschema = {type = \"object\"}\n\
        [tasks.c]\nkind = \"chat\"\nschema = {type = \"no such type\"}\nmax_attempts = 0\n";
    let errors = Config::load(Some((Path::new("t.toml"), file)), []).unwrap_err().to_string();
    let keys =
        ["tasks.a.input.temperature", "tasks.a.schema", "tasks.b.schema", "tasks.c.schema", "tasks.c.max_attempts"];
    for key in keys {
        assert!(errors.lines().any(|line| line.starts_with(&format!("{key}: "))), "{key} is not in\n{errors}");
    }
}
