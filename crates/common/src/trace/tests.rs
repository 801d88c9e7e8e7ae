//! Which headers a trace goes on from.

use opentelemetry::trace::SpanContext;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn parse(parent: &str) -> Option<TraceContext> {
    TraceContext::parse(parent, "")
}

#[test]
fn a_valid_header_is_kept_as_it_came() {
    for parent in [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    ] {
        let context = TraceContext::parse(parent, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE").unwrap();
        assert_eq!(context.traceparent(), parent);
        assert_eq!(context.tracestate(), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
        assert_eq!(context.trace_id(), TRACE);
        assert_eq!(TraceContext::of(&context.remote()), Some(context));
    }
}

#[test]
fn of_flags_and_versions_to_come_only_what_is_known_counts() {
    let known = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    for parent in [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes",
    ] {
        assert_eq!(parse(parent).map(|context| context.traceparent().to_owned()), known, "{parent}");
    }
}

#[test]
fn any_other_header_is_no_trace() {
    for parent in [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0\u{e9}",
    ] {
        assert_eq!(parse(parent), None, "{parent}");
    }
    assert_eq!(TraceContext::of(&SpanContext::NONE), None);
}

#[test]
fn a_state_that_cannot_be_read_is_left_out() {
    let long = format!("a={}", "x".repeat(511));
    for state in ["a", "A=b", &long] {
        let context = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", state).unwrap();
        assert_eq!(context.tracestate(), "", "{state}");
    }
}
