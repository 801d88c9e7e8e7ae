//! What of a sidecar's answer is shown: GPUs, containers, vLLM.
//!
//! Names of the DCGM exporter (<https://github.com/NVIDIA/dcgm-exporter/blob/main/etc/default-counters.csv>), cAdvisor and vLLM.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::exposition::Sample;

/// Most members of a section, and levels of a sidecar's own JSON.
const MOST: usize = 256;
const DEEPEST: usize = 8;
const MIB: f64 = 1_048_576.0;

/// The parts of the answer; `None` where the sidecar tells nothing of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = InfraSections)]
pub(crate) struct Sections {
    gpu: Option<Value>,
    containers: Option<Value>,
    vllm: Option<Value>,
}

/// A metric, the field that it becomes, and what makes it the field's unit.
type Field = (&'static str, &'static str, f64);

const GPU: &[Field] = &[
    ("DCGM_FI_DEV_GPU_UTIL", "utilization_percent", 1.0),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", "memory_utilization_percent", 1.0),
    ("DCGM_FI_DEV_FB_USED", "memory_used_bytes", MIB),
    ("DCGM_FI_DEV_FB_FREE", "memory_free_bytes", MIB),
    ("DCGM_FI_DEV_GPU_TEMP", "temperature_celsius", 1.0),
    ("DCGM_FI_DEV_POWER_USAGE", "power_watts", 1.0),
    ("DCGM_FI_DEV_SM_CLOCK", "sm_clock_mhz", 1.0),
    ("DCGM_FI_DEV_XID_ERRORS", "last_xid_error", 1.0),
];
const CONTAINERS: &[Field] = &[
    ("container_memory_working_set_bytes", "memory_bytes", 1.0),
    ("container_memory_usage_bytes", "memory_usage_bytes", 1.0),
    ("container_cpu_usage_seconds_total", "cpu_seconds", 1.0),
    ("container_start_time_seconds", "started_at_unix", 1.0),
];
const VLLM: &[Field] = &[
    ("vllm:num_requests_running", "requests_running", 1.0),
    ("vllm:num_requests_waiting", "requests_waiting", 1.0),
    ("vllm:num_requests_swapped", "requests_swapped", 1.0),
    ("vllm:kv_cache_usage_perc", "kv_cache_usage", 1.0),
    ("vllm:gpu_cache_usage_perc", "kv_cache_usage", 1.0),
    ("vllm:num_preemptions_total", "preemptions", 1.0),
    ("vllm:prompt_tokens_total", "prompt_tokens", 1.0),
    ("vllm:generation_tokens_total", "generation_tokens", 1.0),
];
/// Parts of names that may be a secret's.
const SECRETIVE: &[&str] =
    &["token", "secret", "passw", "key", "auth", "credential", "cookie", "url", "env", "command", "args"];
/// Names that only look like one.
const HARMLESS: &[&str] = &["prompt_tokens", "generation_tokens", "tokens", "tokens_per_second"];

impl Sections {
    /// The sections of a page of metrics.
    pub(super) fn of_samples(samples: &[Sample]) -> Self {
        let gpu_labels = [("gpu", "index"), ("UUID", "uuid"), ("modelName", "name"), ("Hostname", "host")];
        let container_labels =
            [("container", "container"), ("name", "name"), ("pod", "pod"), ("namespace", "namespace")];
        let in_container = |sample: &&Sample| {
            let named = |label| sample.labels.get(label).is_some_and(|name: &String| !name.is_empty());
            named("container") || named("name") || named("pod")
        };
        Self {
            gpu: section(samples.iter(), GPU, &gpu_labels),
            containers: section(samples.iter().filter(in_container), CONTAINERS, &container_labels),
            vllm: section(samples.iter(), VLLM, &[("model_name", "model"), ("engine", "engine")]),
        }
    }

    /// The sections of a sidecar's own object: its members of these names, without what looks like a secret.
    pub(super) fn of_json(value: Value) -> Self {
        let Value::Object(mut members) = value else { return Self { gpu: Some(clean(value, 0)), ..Self::default() } };
        let mut take = |names: &[&str]| {
            let found = names.iter().find_map(|name| members.remove(*name)).filter(|value| !value.is_null());
            found.map(|value| clean(value, 0))
        };
        Self { gpu: take(&["gpu", "gpus"]), containers: take(&["containers", "container"]), vllm: take(&["vllm"]) }
    }
}

/// One object for each combination of the labels, in their order.
fn section<'a>(samples: impl Iterator<Item = &'a Sample>, fields: &[Field], labels: &[(&str, &str)]) -> Option<Value> {
    let mut found = BTreeMap::<Vec<Option<&str>>, Map<String, Value>>::new();
    for sample in samples {
        let Some((_, field, factor)) = fields.iter().find(|(name, ..)| *name == sample.name) else { continue };
        let names: Vec<_> = labels.iter().map(|(label, _)| sample.labels.get(*label).map(String::as_str)).collect();
        if found.len() >= MOST && !found.contains_key(&names) {
            continue;
        }
        let of_names = found.entry(names.clone()).or_insert_with(|| {
            let told =
                labels.iter().zip(&names).filter_map(|((_, field), name)| Some(((*field).to_owned(), json!((*name)?))));
            told.collect()
        });
        // What is no number in JSON (NaN) is null.
        of_names.insert((*field).to_owned(), json!(sample.value * factor));
    }
    (!found.is_empty()).then(|| found.into_values().map(Value::Object).collect())
}

/// The value without members that may be secret, and within limits.
fn clean(value: Value, depth: usize) -> Value {
    match value {
        Value::Object(_) | Value::Array(_) if depth >= DEEPEST => Value::Null,
        Value::Object(members) => {
            let told = members.into_iter().filter(|(name, _)| !is_secretive(name)).take(MOST);
            told.map(|(name, value)| (name, clean(value, depth + 1))).collect()
        }
        Value::Array(values) => values.into_iter().take(MOST).map(|value| clean(value, depth + 1)).collect(),
        other => other,
    }
}

fn is_secretive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !HARMLESS.contains(&name.as_str()) && SECRETIVE.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::super::exposition::parse;
    use super::*;

    #[test]
    fn a_page_of_the_dcgm_exporter_becomes_one_object_per_gpu() {
        let page = r#"
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",modelName="L4",Hostname="h"} 87
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1",modelName="L4",Hostname="h"} 2
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-2",modelName="L4",Hostname="h"} 0
vllm:num_requests_running{model_name="m"} 4
vllm:kv_cache_usage_perc{model_name="m"} 0.5
container_memory_working_set_bytes{container="vllm",pod="p"} 100
container_memory_working_set_bytes{id="/"} 1000
go_threads 8
"#;
        let sections = Sections::of_samples(&parse(page).unwrap());
        assert_eq!(
            serde_json::to_value(&sections).unwrap(),
            json!({
                "gpu": [
                    {"index": "0", "uuid": "GPU-1", "name": "L4", "host": "h", "utilization_percent": 87.0, "memory_used_bytes": 2.0 * MIB},
                    {"index": "1", "uuid": "GPU-2", "name": "L4", "host": "h", "utilization_percent": 0.0},
                ],
                "containers": [{"container": "vllm", "pod": "p", "memory_bytes": 100.0}],
                "vllm": [{"model": "m", "requests_running": 4.0, "kv_cache_usage": 0.5}],
            })
        );
    }

    #[test]
    fn a_page_without_gpus_has_no_such_section() {
        assert_eq!(Sections::of_samples(&parse("go_threads 8").unwrap()), Sections::default());
    }

    #[test]
    fn a_sidecars_own_json_is_shown_without_its_secrets() {
        let sections = Sections::of_json(json!({
            "gpu": [{"util": 3, "api_key": "s"}], "vllm": {"prompt_tokens": 5, "auth": {"token": "s"}}, "other": {"password": "s"},
        }));
        let shown = serde_json::to_value(&sections).unwrap();
        assert_eq!(shown, json!({"gpu": [{"util": 3}], "containers": null, "vllm": {"prompt_tokens": 5}}));
    }
}
