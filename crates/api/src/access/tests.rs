//! Who is let in, to what.

use axum::http::HeaderValue;
use overshot_common::config::Secret;

use super::*;

fn access(tokens: &[&str], named: &str) -> Access {
    let text = format!("[pools.chat]\nproviders = [\"sim\"]\n[providers.sim]\nkind = \"simulated\"\n{named}");
    let mut config = Config::load(Some(("test".as_ref(), &text)), []).unwrap();
    config.api_tokens = tokens.iter().copied().map(Secret::new).collect();
    Access::new(&config, |name| (name == "HELD").then(|| "held-1, held-2".to_owned())).unwrap()
}

fn bearing(header: Option<&str>) -> HeaderMap {
    header.map(|header| (AUTHORIZATION, HeaderValue::from_str(header).unwrap())).into_iter().collect()
}

/// The status of a refusal; 0 where there is none.
fn status(access: &Access, header: Option<&str>, method: &Method, path: &str) -> u16 {
    access.admit(&bearing(header), method, path).map_or_else(|error| error.status().as_u16(), |_| 0)
}

fn admits(tokens: &[&str], header: Option<&str>) -> bool {
    status(&access(tokens, ""), header, &Method::POST, "/api/v1/pools/chat/pause") == 0
}

#[test]
fn without_tokens_the_api_is_open() {
    assert!(admits(&[], None));
    assert!(admits(&[], Some("Bearer anything")));
    let named = access(&[], "[tokens.a]\ntoken_env = \"HELD\"\nroles = [\"read\"]");
    assert!(status(&named, None, &Method::GET, "/api/v1/jobs") == 401);
}

#[test]
fn each_of_several_tokens_opens() {
    assert!(admits(&["one", "two"], Some("Bearer one")));
    assert!(admits(&["one", "two"], Some("bearer two")));
}

#[test]
fn anything_else_is_refused() {
    for header in ["", "Bearer", "Bearer ", "Bearer on", "Bearer onee", "Basic one", "one", "Bearer one,two"] {
        assert!(!admits(&["one", "two"], Some(header)), "{header}");
    }
    assert!(!admits(&["one"], None));
}

#[test]
fn two_authorization_headers_are_refused() {
    let mut headers = bearing(Some("Bearer one"));
    headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer one"));
    assert!(access(&["one"], "").admit(&headers, &Method::GET, "/api/v1/jobs").is_err());
}

#[test]
fn a_role_opens_its_own_calls_and_no_others() {
    let calls = [
        (Method::GET, "/api/v1/jobs", "read"),
        (Method::GET, "/api/v1/workers", "read"),
        (Method::POST, "/api/v1/jobs", "submit"),
        (Method::DELETE, "/api/v1/jobs/x", "submit"),
        (Method::PATCH, "/api/v1/jobs/x", "submit"),
        (Method::POST, "/v1/chat/completions", "submit"),
        (Method::POST, "/api/v1/pools/chat/pause", "operate"),
        (Method::POST, "/api/v1/workers/w/drain", "operate"),
        (Method::POST, "/api/v1/what-comes-next", "operate"),
    ];
    for (role, _) in Role::ALL {
        let access = access(&[], &format!("[tokens.a]\ntoken_env = \"HELD\"\nroles = [\"{role}\"]"));
        for (method, path, needed) in &calls {
            let expected = if *needed == role { 0 } else { 403 };
            assert_eq!(status(&access, Some("Bearer held-2"), method, path), expected, "{role}: {method} {path}");
        }
    }
}

#[test]
fn a_token_of_one_service_goes_only_where_its_own_jobs_are() {
    let named = "[tokens.a]\ntoken_env = \"HELD\"\nroles = [\"read\", \"submit\"]\nservice = \"s\"";
    let access = access(&[], named);
    for (path, expected) in [
        ("/api/v1/jobs", 0),
        ("/api/v1/pools/chat/demand", 0),
        ("/api/v1/collections/s", 0),
        ("/api/v1/workers", 403),
        ("/api/v1/stats", 403),
    ] {
        assert_eq!(status(&access, Some("Bearer held-1"), &Method::GET, path), expected, "{path}");
    }
    let caller = access.admit(&bearing(Some("Bearer held-1")), &Method::GET, "/api/v1/jobs").unwrap();
    assert!(caller.sees(Some("s")) && !caller.sees(Some("t")) && !caller.sees(None));
    for (name, own) in [("s", true), ("s.docs", true), ("s.", true), ("sd", false), ("t", false), ("", false)] {
        assert_eq!(caller.sees_collection(name), own, "{name}");
    }
}

#[test]
fn a_digest_stands_for_a_token_that_the_configuration_does_not_hold() {
    // sha256sum of `one`.
    let hash = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    let access = access(&[], &format!("[tokens.a]\ntoken_sha256 = [\"{hash}\"]\nroles = [\"read\"]"));
    assert_eq!(status(&access, Some("Bearer one"), &Method::GET, "/api/v1/jobs"), 0);
    assert_eq!(status(&access, Some("Bearer two"), &Method::GET, "/api/v1/jobs"), 401);
}

#[test]
fn mistakes_are_told_together_and_without_the_token() {
    let text = "[pools.chat]\nproviders = [\"sim\"]\n[providers.sim]\nkind = \"simulated\"\n\
                [tokens.a]\ntoken_env = \"A\"\nroles = [\"read\"]\n[tokens.b]\ntoken_env = \"B\"\nroles = [\"read\"]";
    let mut config = Config::load(Some(("test".as_ref(), text)), []).unwrap();
    config.api_tokens = vec![Secret::new("same")];
    let mistakes = Access::new(&config, |name| (name == "A").then(|| "same".to_owned())).unwrap_err();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes[0].contains("tokens.a") && mistakes[1].contains("tokens.b.token_env"), "{mistakes:?}");
    assert!(!mistakes.concat().contains("same"), "{mistakes:?}");
}

#[test]
fn a_limited_token_is_told_when_to_come_again() {
    let access = access(&[], "[tokens.a]\ntoken_env = \"HELD\"\nroles = [\"read\"]\nrate_limit = 2");
    let ask = || status(&access, Some("Bearer held-1"), &Method::GET, "/api/v1/jobs");
    assert_eq!([ask(), ask(), ask()], [0, 0, 429]);
}
