//! Which of its models a server has loaded, where its list tells.

use reqwest::Url;
use serde::Deserialize;

use super::Client;

/// The most that is read of a list of models.
const LIST_BYTES_MAX: usize = 4 << 20;
/// Servers that list only what they have loaded, as `owned_by` names them: `vllm/entrypoints/openai/models/protocol.py`,
/// `tools/server/server.cpp` of llama.cpp, `srt/entrypoints/http_server.py` of `SGLang`.
const LIST_WHAT_IS_LOADED: [&str; 3] = ["vllm", "llamacpp", "sglang"];

#[derive(Deserialize)]
struct List {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default)]
    owned_by: Option<String>,
    /// llama.cpp's router: `{"value":"loaded"}`.
    #[serde(default)]
    status: Option<Status>,
    /// LM Studio: `loaded` or `not-loaded`.
    #[serde(default)]
    state: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    value: String,
}

impl Client {
    /// The models that are loaded now; `None` where the server does not tell.
    pub(in crate::providers) async fn loaded(&self) -> Option<Vec<String>> {
        let url: Url = self.url.join("../models").expect("a URL with a path has a place beside it");
        let mut response = self.http.get(url).send().await.ok()?.error_for_status().ok()?;
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.ok()? {
            body.extend_from_slice(&bytes);
            if body.len() > LIST_BYTES_MAX {
                return None;
            }
        }
        read(&body)
    }
}

fn read(body: &[u8]) -> Option<Vec<String>> {
    let list: List = serde_json::from_slice(body).ok()?;
    let is_loaded = |model: &Model| match (&model.status, &model.state, &model.owned_by) {
        (Some(status), _, _) => Some(status.value == "loaded"),
        (_, Some(state), _) => Some(state == "loaded"),
        (_, _, Some(owner)) if LIST_WHAT_IS_LOADED.contains(&owner.as_str()) => Some(true),
        _ => None,
    };
    let told: Option<Vec<_>> = list.data.into_iter().map(|model| Some((is_loaded(&model)?, model.id))).collect();
    Some(told?.into_iter().filter(|(loaded, _)| *loaded).map(|(_, id)| id).collect())
}

#[cfg(test)]
mod tests {
    use super::read;

    #[track_caller]
    fn check(list: &str, expected: Option<&[&str]>) {
        let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(list.as_bytes()), expected, "{list}");
    }

    #[test]
    fn what_is_loaded_is_read_where_the_list_tells() {
        check(
            r#"{"data":[{"id":"a","status":{"value":"loaded"}},{"id":"b","status":{"value":"unloaded"}}]}"#,
            Some(&["a"]),
        );
        check(r#"{"data":[{"id":"a","state":"not-loaded"},{"id":"b","state":"loaded"}]}"#, Some(&["b"]));
        check(r#"{"data":[{"id":"a","owned_by":"vllm"},{"id":"a-lora","owned_by":"vllm"}]}"#, Some(&["a", "a-lora"]));
        check(r#"{"data":[{"id":"gpt-5","owned_by":"system"}]}"#, None);
        check(r#"{"data":[{"id":"a","state":"loaded"},{"id":"b"}]}"#, None);
        check(r#"{"object":"list"}"#, None);
    }
}
