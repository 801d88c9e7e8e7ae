//! `[traces]`: where spans go. The variables of OpenTelemetry's own that say the same come first.

use std::collections::BTreeMap;

use super::mistakes::Mistakes;
use super::provider::check_base_url;
use super::reader::Section;

/// The variables that are read here; the exporter reads further ones, such as its headers, itself.
pub(super) const VARIABLES: [&str; 7] =
    [DISABLED, EXPORTER, ENDPOINT, TRACES_ENDPOINT, PROTOCOL, TRACES_PROTOCOL, SAMPLER];

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";

/// `[traces]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TracesConfig {
    /// Where spans are posted to: a whole URL, `/v1/traces` included; `None`: no spans are made.
    pub endpoint: Option<String>,
    /// Share of the traces that begin here which are exported, 0 to 1; `None`: all, or what `OTEL_TRACES_SAMPLER` says. A
    /// caller's trace goes by the caller's decision.
    pub sample_ratio: Option<f64>,
}

impl TracesConfig {
    pub(super) fn read(mut from: Section, env: &BTreeMap<String, String>, mistakes: &mut Mistakes) -> Self {
        let set = |name: &str| env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let base = from.text(mistakes, "endpoint");
        if let Some(Err(problem)) = base.as_deref().map(check_base_url) {
            mistakes.add(&from.key("endpoint"), problem);
        }
        let ratio = from.share(mistakes, "sample_ratio", 1.0);
        from.finish(mistakes);
        let below = |base: &str| format!("{}/v1/traces", base.trim_end_matches('/'));
        let endpoint = set(TRACES_ENDPOINT).map(str::to_owned);
        let endpoint = endpoint.or_else(|| set(ENDPOINT).map(below)).or_else(|| base.as_deref().map(below));
        for name in [TRACES_ENDPOINT, ENDPOINT] {
            if let Some(Err(problem)) = set(name).map(check_base_url) {
                mistakes.add(name, problem);
            }
        }
        let wanted = match set(EXPORTER) {
            None | Some("otlp") => true,
            Some("none") => false,
            Some(_) => {
                mistakes.add(EXPORTER, "must be otlp or none");
                false
            }
        };
        let wanted = wanted && !set(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let endpoint = endpoint.filter(|_| wanted);
        let protocol = [TRACES_PROTOCOL, PROTOCOL].into_iter().find_map(|name| Some((name, set(name)?)));
        if let (Some(_), Some((name, protocol))) = (&endpoint, protocol)
            && protocol != "http/protobuf"
        {
            mistakes.add(name, "must be http/protobuf: traces are sent in no other way");
        }
        let sample_ratio = if set(SAMPLER).is_some() || ratio >= 1.0 { None } else { Some(ratio) };
        Self { endpoint, sample_ratio }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, ConfigErrors, TracesConfig};

    fn load(section: &str, env: &[(&str, &str)]) -> Result<TracesConfig, ConfigErrors> {
        let text = format!("{section}\n[pools.chat]\nproviders = [\"sim\"]\n[providers.sim]\nkind = \"simulated\"\n");
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Some((Path::new("test"), &text)), env).map(|config| config.traces)
    }

    fn endpoint(section: &str, env: &[(&str, &str)]) -> Option<String> {
        load(section, env).unwrap().endpoint
    }

    const FILE: &str = "[traces]\nendpoint = \"http://file:4318/\"\nsample_ratio = 0.25";

    #[test]
    fn the_variables_of_opentelemetry_come_before_the_file() {
        assert_eq!(load("", &[]).unwrap(), TracesConfig::default());
        assert_eq!(endpoint(FILE, &[]).as_deref(), Some("http://file:4318/v1/traces"));
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/base");
        assert_eq!(endpoint(FILE, &[general]).as_deref(), Some("http://all:4318/base/v1/traces"));
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces/take");
        assert_eq!(endpoint(FILE, &[general, own]).as_deref(), Some("http://traces/take"));
        assert_eq!(endpoint("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), None);
        let ours = ("OVERSHOT__TRACES__ENDPOINT", "http://override");
        assert_eq!(endpoint(FILE, &[ours]).as_deref(), Some("http://override/v1/traces"));
    }

    #[test]
    fn the_ratio_counts_unless_a_variable_names_a_sampler() {
        assert_eq!(load(FILE, &[]).unwrap().sample_ratio, Some(0.25));
        assert_eq!(load(FILE, &[("OTEL_TRACES_SAMPLER", "always_on")]).unwrap().sample_ratio, None);
    }

    #[test]
    fn what_switches_traces_off_does_so_whatever_else_is_set() {
        for off in [("OTEL_SDK_DISABLED", "True"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(endpoint(FILE, &[off, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), None, "{off:?}");
        }
        assert!(endpoint(FILE, &[("OTEL_SDK_DISABLED", "false"), ("OTEL_TRACES_EXPORTER", "otlp")]).is_some());
    }

    #[test]
    fn a_mistake_names_its_key() {
        let key = |section: &str, env: &[(&str, &str)]| {
            let mistakes = load(section, env).unwrap_err();
            mistakes.iter().map(|mistake| mistake.key.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            key("[traces]\nendpoint = \"collector:4318\"\nsample_ratio = 2.0\nport = 1", &[]),
            "traces.endpoint traces.sample_ratio traces.port"
        );
        for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
            assert_eq!(key("", &[(name, "http://user:secret@collector")]), name);
        }
        assert_eq!(key(FILE, &[("OTEL_TRACES_EXPORTER", "zipkin")]), "OTEL_TRACES_EXPORTER");
        assert_eq!(key(FILE, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), "OTEL_EXPORTER_OTLP_PROTOCOL");
        let both = [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")];
        assert!(load(FILE, &both).is_ok());
    }
}
